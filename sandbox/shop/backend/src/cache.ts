/** Redis: sessions, carts, and cached catalogue pages under a key of the release that made them. */

import { createClient } from "@redis/client";
import { log, describe } from "./log.js";

export type Cache = ReturnType<typeof openCache>;

export const CATALOGUE_SECONDS = 60;

export function openCache(url: string) {
  const client = createClient({
    url,
    // Requests fail at once while Redis is away, instead of piling up behind it.
    disableOfflineQueue: true,
    socket: { connectTimeout: 3_000, reconnectStrategy: (retries) => Math.min(50 * 2 ** retries, 2_000) },
  });
  client.on("error", (error) => log.warn("redis connection failed", { error: describe(error) }));
  return client;
}

/** Two releases that run side by side may shape their data differently: they never share a key. */
export function catalogueKey(version: string): string {
  return `cache:catalogue:${version}`;
}

/** Remove every cached entry but those whose key is in `keep`; sessions and carts are not cache. */
export async function purge(cache: Cache, keep: string[] = []): Promise<number> {
  let removed = 0;
  for await (const keys of cache.scanIterator({ MATCH: "cache:*", COUNT: 500 })) {
    const stale = keys.filter((key) => !keep.includes(key));
    if (stale.length > 0) removed += await cache.unlink(stale);
  }
  return removed;
}
