/** Products, as the release's schema level spells them, cached for a minute. */

import type pg from "pg";
import { CATALOGUE_SECONDS, catalogueKey, type Cache } from "./cache.js";
import { describe, log } from "./log.js";
import type { Release } from "./release.js";

export interface Product {
  id: number;
  slug: string;
  name: string;
  description: string;
  priceCents: number;
  origin: string | null;
}

/** Names that changed between schema levels. A release knows its own level, never the database's. */
export function columns(release: Release): { price: string; origin: string } {
  const { level } = release.schema;
  return {
    price: level >= 3 ? "unit_amount" : "price_cents",
    origin: level >= 3 ? "botany->>'origin'" : level >= 2 ? "origin" : "NULL",
  };
}

export class Catalogue {
  constructor(
    private readonly database: pg.Pool,
    private readonly cache: Cache,
    private readonly release: Release,
  ) {}

  /** Every product. The cache is a help, not a need: without Redis the database answers. */
  async products(): Promise<Product[]> {
    const key = catalogueKey(this.release.version);
    try {
      const cached = await this.cache.get(key);
      if (cached) return JSON.parse(cached) as Product[];
    } catch (error) {
      log.warn("catalogue cache not readable", { error: describe(error) });
    }
    return this.refresh();
  }

  /** Read the products from the database and put them into the cache. */
  async refresh(): Promise<Product[]> {
    const { price, origin } = columns(this.release);
    const found = await this.database.query<Product>(
      `SELECT id, slug, name, description, ${price} AS "priceCents", ${origin} AS origin FROM products ORDER BY name`,
    );
    try {
      await this.cache.set(catalogueKey(this.release.version), JSON.stringify(found.rows), {
        expiration: { type: "EX", value: CATALOGUE_SECONDS },
      });
    } catch (error) {
      log.warn("catalogue cache not writable", { error: describe(error) });
    }
    return found.rows;
  }
}
