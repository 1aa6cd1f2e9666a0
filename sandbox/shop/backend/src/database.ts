/** PostgreSQL: the pool, and the schema level that its migrations table tells. */

import pg from "pg";
import { log, describe } from "./log.js";

export const MIGRATIONS_TABLE = "pgmigrations";

const UNDEFINED_TABLE = "42P01";

export function openDatabase(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    connectionTimeoutMillis: 3_000,
    statement_timeout: 10_000,
    application_name: "shop",
  });
  // Without a listener, a server restart that cuts an idle connection would end this process.
  pool.on("error", (error) => log.warn("idle database connection lost", { error: describe(error) }));
  return pool;
}

/** Number of the newest migration that ran; 0 for an empty database. */
export async function schemaLevel(database: Pick<pg.ClientBase, "query">): Promise<number> {
  try {
    const found = await database.query<{ level: number }>(
      `SELECT coalesce(max(substring(name FROM '^[0-9]+')::int), 0) AS level FROM ${MIGRATIONS_TABLE}`,
    );
    return found.rows[0]?.level ?? 0;
  } catch (error) {
    if ((error as { code?: string }).code === UNDEFINED_TABLE) return 0;
    throw error;
  }
}
