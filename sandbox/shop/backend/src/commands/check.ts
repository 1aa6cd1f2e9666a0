/** Check a running shop from outside: `check.js NAME…`, against TARGET_URL. Every check runs; one failure fails the command. */

import { Client } from "../checks/client.js";
import { checks } from "../checks/index.js";
import { required } from "../config.js";
import { describe } from "../log.js";
import { command } from "./command.js";

await command(async () => {
  const names = process.argv.slice(2);
  const unknown = names.filter((name) => !checks[name]);
  if (names.length === 0 || unknown.length > 0) {
    throw new Error(`unknown check "${unknown.join(" ")}"; known: ${Object.keys(checks).join(", ")}`);
  }
  const target = required(process.env, "TARGET_URL");
  let failed = 0;
  for (const name of names) {
    const start = performance.now();
    const passed = (text: string) => console.log(`ok    ${name}: ${text} (${Math.round(performance.now() - start)} ms)`);
    try {
      passed(await checks[name]!(new Client(target)));
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}: ${describe(error)}`);
    }
  }
  if (failed > 0) throw new Error(`${failed} of ${names.length} checks failed against ${new URL(target).origin}`);
});
