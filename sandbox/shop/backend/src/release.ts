/** What this build is: its version, the database levels it serves on, and the fault it was made with, if any. */

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { ConfigError } from "./config.js";

/** Releases that are broken on purpose, each in one way, to practise on. */
export type Fault = "errors" | "crash" | "empty-shop" | "late-errors" | "late-slow" | "late-unhealthy";

export interface Release {
  version: string;
  schema: { min: number; max: number; level: number };
  migrations: string[];
  fault: Fault | null;
  /** Folder of the migration files. */
  folder: string;
}

const BACKEND = fileURLToPath(new URL("../..", import.meta.url));

/** An image carries exactly one release; in a checkout RELEASE names a file in releases/. */
export function readRelease(env: Record<string, string | undefined> = process.env): Release {
  const shipped = join(BACKEND, "release.json");
  const inImage = existsSync(shipped);
  const file = inImage ? shipped : join(BACKEND, "..", "releases", `${env["RELEASE"] || "v2"}.json`);
  if (!existsSync(file)) throw new ConfigError(`RELEASE: there is no ${file}`);
  const release = JSON.parse(readFileSync(file, "utf8")) as Omit<Release, "folder">;
  return {
    ...release,
    schema: {
      min: level(env, "SCHEMA_MIN", release.schema.min),
      max: level(env, "SCHEMA_MAX", release.schema.max),
      level: release.schema.level,
    },
    folder: join(BACKEND, inImage ? "migrations" : "../migrations"),
  };
}

function level(env: Record<string, string | undefined>, name: string, fallback: number): number {
  const value = env[name] ? Number(env[name]) : fallback;
  if (!Number.isInteger(value) || value < 0) throw new ConfigError(`${name} must be a whole number (a schema level)`);
  return value;
}
