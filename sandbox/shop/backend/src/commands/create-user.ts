/** Create an account: `users:create -- EMAIL [--admin]`; the password is the first line of standard input. */

import { text } from "node:stream/consumers";
import { createUser } from "../auth.js";
import { required } from "../config.js";
import { openDatabase } from "../database.js";
import { command } from "./command.js";

await command(async () => {
  const [email, flag] = process.argv.slice(2);
  if (!email?.includes("@") || (flag && flag !== "--admin")) throw new Error("usage: users:create -- EMAIL [--admin], password on standard input");
  const [password = ""] = (await text(process.stdin)).split("\n");
  if (password.length < 8) throw new Error("the password on standard input needs 8 characters or more");
  const database = openDatabase(required(process.env, "DATABASE_URL"));
  const user = await createUser(database, email, password, flag ? "admin" : "customer");
  if (!user) throw new Error(`${email} has an account already`);
  console.log(`created ${user.role} ${user.email}`);
});
