/** Start the shop, and end it in order. */

import { setTimeout as pause } from "node:timers/promises";
import { createApp } from "./app.js";
import { readConfig } from "./config.js";
import { Drain } from "./drain.js";
import { describe, log } from "./log.js";
import { readRelease } from "./release.js";
import { flushSentry, startSentry } from "./sentry.js";
import { createServices } from "./services.js";

const GOODBYE_MILLISECONDS = 2_000;

try {
  const config = readConfig();
  const release = readRelease();
  if (release.fault === "crash") throw new Error("this release ends at start on purpose");
  await startSentry(config.sentryDsn, config.git);
  const services = createServices(config, release);
  const drain = new Drain(config.drainQuietMilliseconds);
  const app = await createApp(services, drain);

  const end = async (reason: string) => {
    await drain.leave(reason);
    // A database that vanished never confirms the goodbye; every request is answered by now, so nobody waits for it.
    await Promise.race([Promise.all([services.close(), flushSentry()]), pause(GOODBYE_MILLISECONDS)]);
    // Exit by itself would wait for timers of libraries; everything that matters is closed by now.
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void end(signal));

  await app.listen({ host: process.env["HOST"] || "0.0.0.0", port: config.port });
  log.info("serving", { port: config.port, release: release.version, git: config.git, schema: release.schema });
} catch (error) {
  log.error("cannot start", { error: describe(error) });
  process.exit(1);
}
