/** Wait for what the shop depends on, throw away what other releases cached, and warm this release's cache. */

import { schemaLevel, openDatabase } from "../database.js";
import { catalogueKey, purge } from "../cache.js";
import { Catalogue } from "../catalogue.js";
import { required } from "../config.js";
import { readRelease } from "../release.js";
import { command, connectCache, seconds, until } from "./command.js";

await command(async () => {
  const release = readRelease();
  const limit = seconds("WAIT_SECONDS", 60);
  const database = openDatabase(required(process.env, "DATABASE_URL"));
  const { min, max } = release.schema;
  const level = await until("database not ready", limit, async () => {
    const found = await schemaLevel(database);
    if (found < min || found > max) throw new Error(`it is at schema level ${found}, release ${release.version} needs ${min} to ${max}`);
    return found;
  });
  console.log(`database ready at schema level ${level}`);
  const cache = await connectCache(limit);
  console.log("redis ready");
  console.log(`cache: ${await purge(cache, [catalogueKey(release.version)])} stale entries removed`);
  const products = await new Catalogue(database, cache, release).refresh();
  console.log(`cache: warmed with ${products.length} products`);
});
