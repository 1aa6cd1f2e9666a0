/**
 * Bring the database to this release's schema level.
 *
 * Each migration is one transaction: a failing one leaves the database at the level before it. Only one migration runs
 * at a time, whoever starts it: the second waits for the first, but not for ever.
 */

import { join } from "node:path";
import { runner } from "node-pg-migrate";
import { MIGRATIONS_TABLE, schemaLevel } from "../database.js";
import { describe } from "../log.js";
import { readRelease } from "../release.js";
import { command, connectDatabase, seconds } from "./command.js";

const LOCK = 7_263_001;

/** A migration that cannot get its table lock soon gives up: while it queues, every reader queues behind it. */
const TABLE_LOCK_TIMEOUT = "10s";

await command(async () => {
  const release = readRelease();
  const client = await connectDatabase(seconds("WAIT_SECONDS", 30));
  const lockSeconds = seconds("MIGRATION_LOCK_SECONDS", 120);
  await client.query(`SET lock_timeout = '${lockSeconds}s'`);
  try {
    await client.query("SELECT pg_advisory_lock($1)", [LOCK]);
  } catch (error) {
    throw new Error(`another migration has held the lock for ${lockSeconds} s`, { cause: error });
  }
  await client.query(`SET lock_timeout = '${TABLE_LOCK_TIMEOUT}'`);

  const before = await schemaLevel(client);
  if (before > release.schema.max) {
    throw new Error(
      `the database is at schema level ${before}, but release ${release.version} works up to level ${release.schema.max}; ` +
        "deploy a release that knows this level, or restore a backup from before it",
    );
  }
  const ran = await runner({
    dbClient: client,
    dir: release.migrations.map((name) => join(release.folder, name)),
    useGlob: true,
    direction: "up",
    count: Infinity,
    migrationsTable: MIGRATIONS_TABLE,
    singleTransaction: false,
    noLock: true,
    verbose: false,
    log: () => undefined,
  }).catch(async (error: unknown) => {
    await client.query("ROLLBACK");
    const level = await schemaLevel(client);
    const failed = release.migrations.find((name) => parseInt(name, 10) > level) ?? "a migration";
    throw new Error(`${failed} failed (${describe(error)}); the database stays at schema level ${level}`, { cause: error });
  });
  for (const { name } of ran) console.log(`applied ${name}`);
  console.log(`schema level ${before} → ${await schemaLevel(client)} (release ${release.version})`);
});
