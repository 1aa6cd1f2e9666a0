/** Log in with STAGING_EMAIL and STAGING_PASSWORD and keep the token in a file that only its owner can read. */

import { writeFileSync } from "node:fs";
import { required } from "../config.js";
import { Client, tokenFile } from "../checks/client.js";
import { command } from "./command.js";

await command(async () => {
  const client = new Client(required(process.env, "TARGET_URL"));
  const email = required(process.env, "STAGING_EMAIL");
  const password = required(process.env, "STAGING_PASSWORD");
  const { token, expiresIn } = await client.json<{ token: string; expiresIn: number }>("POST", "/api/auth/login", { email, password });
  writeFileSync(tokenFile(), token, { mode: 0o600 });
  console.log(`token for ${email} written to ${tokenFile()}, valid for ${Math.round(expiresIn / 3600)} h`);
});
