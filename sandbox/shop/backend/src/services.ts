/** Everything a request may need, made once at start and closed once at the end. */

import type pg from "pg";
import { Auth } from "./auth.js";
import { openCache, type Cache } from "./cache.js";
import { Catalogue } from "./catalogue.js";
import type { Config } from "./config.js";
import { openDatabase } from "./database.js";
import { Faults } from "./faults.js";
import { describe, log } from "./log.js";
import { createMetrics, type Metrics } from "./metrics.js";
import type { Release } from "./release.js";

export interface Services {
  config: Config;
  release: Release;
  database: pg.Pool;
  cache: Cache;
  auth: Auth;
  catalogue: Catalogue;
  faults: Faults;
  metrics: Metrics;
  close(): Promise<void>;
}

export function createServices(config: Config, release: Release): Services {
  const database = openDatabase(config.databaseUrl);
  const cache = openCache(config.redisUrl);
  // Not awaited: the shop starts and is alive without Redis, and the client keeps trying.
  cache.connect().catch((error: unknown) => log.warn("redis not reachable", { error: describe(error) }));
  const metrics = createMetrics(release, config.git);
  return {
    config,
    release,
    database,
    cache,
    auth: new Auth(database, cache, config.jwtKeys, metrics),
    catalogue: new Catalogue(database, cache, release),
    faults: new Faults(release.fault),
    metrics,
    async close() {
      cache.destroy();
      await database.end();
    },
  };
}
