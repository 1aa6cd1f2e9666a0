/** Database upkeep: `analyze`, `vacuum` or `reindex`; none of them blocks readers or writers. */

import { command, connectDatabase, seconds } from "./command.js";

const STATEMENTS: Record<string, string> = {
  analyze: "ANALYZE",
  vacuum: "VACUUM (ANALYZE)",
  reindex: "REINDEX SCHEMA CONCURRENTLY public",
};

await command(async () => {
  const [task = ""] = process.argv.slice(2);
  const statement = STATEMENTS[task];
  if (!statement) throw new Error(`unknown task "${task}"; one of: ${Object.keys(STATEMENTS).join(", ")}`);
  const client = await connectDatabase(seconds("WAIT_SECONDS", 30));
  const dead = async () => (await client.query("SELECT coalesce(sum(n_dead_tup), 0)::int AS dead FROM pg_stat_user_tables")).rows[0] as { dead: number };
  const size = async () => (await client.query("SELECT pg_database_size(current_database())::bigint AS bytes")).rows[0] as { bytes: string };
  const before = { ...(await dead()), ...(await size()) };
  const start = performance.now();
  await client.query(statement);
  const after = { ...(await dead()), ...(await size()) };
  console.log(`${statement}: ${Math.round(performance.now() - start)} ms`);
  console.log(`dead rows ${before.dead} → ${after.dead}, size ${before.bytes} → ${after.bytes} bytes`);
});
