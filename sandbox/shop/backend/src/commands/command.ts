/** What every command shares: one clear line on failure, and waiting for something that may still be starting. */

import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { openCache, type Cache } from "../cache.js";
import { required } from "../config.js";
import { describe } from "../log.js";

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2_000;

/** Run a command to its end; a failure is one line on standard error and exit code 1. */
export async function command(work: () => Promise<void>): Promise<never> {
  try {
    await work();
  } catch (error) {
    console.error(`error: ${describe(error)}`);
    process.exit(1);
  }
  process.exit(0);
}

/** Try again until it works; after `seconds`, say what was waited for and why it did not come. */
export async function until<T>(what: string, seconds: number, attempt: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (let wait = FIRST_PAUSE; ; wait = Math.min(wait * 2, LONGEST_PAUSE)) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() + wait > deadline) throw new Error(`${what} after ${seconds} s: ${describe(error)}`, { cause: error });
      await pause(wait);
    }
  }
}

/** One connection to the database of DATABASE_URL. */
export async function connectDatabase(seconds: number): Promise<pg.Client> {
  const connectionString = required(process.env, "DATABASE_URL");
  return until("database not reachable", seconds, async () => {
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: 3_000, application_name: "shop-command" });
    // Asked for without a listener, a connection lost later would end the process with a stack trace.
    client.on("error", () => undefined);
    await client.connect();
    return client;
  });
}

/** A connection to the Redis of REDIS_URL. */
export async function connectCache(seconds: number): Promise<Cache> {
  const url = required(process.env, "REDIS_URL");
  return until("redis not reachable", seconds, async () => {
    const cache = openCache(url);
    cache.removeAllListeners("error").on("error", () => undefined);
    try {
      await new Promise<void>((resolve, reject) => {
        cache.once("error", reject);
        cache.connect().then(() => resolve(), reject);
      });
      await cache.ping();
      return cache;
    } catch (error) {
      cache.destroy();
      throw error;
    }
  });
}

export function seconds(name: string, fallback: number): number {
  const value = Number(process.env[name] || fallback);
  if (!(value > 0)) throw new Error(`${name} must be a number of seconds above 0`);
  return value;
}
