/** Remove what other releases left in the cache, and give its memory back. */

import { catalogueKey, purge } from "../cache.js";
import { readRelease } from "../release.js";
import { command, connectCache, seconds } from "./command.js";

await command(async () => {
  const cache = await connectCache(seconds("WAIT_SECONDS", 30));
  const used = async () => Number(/used_memory:(\d+)/.exec(await cache.info("memory"))?.[1]);
  const before = await used();
  const removed = await purge(cache, [catalogueKey(readRelease().version)]);
  await cache.sendCommand(["MEMORY", "PURGE"]);
  console.log(`${removed} stale entries removed; memory ${before} → ${await used()} bytes`);
});
