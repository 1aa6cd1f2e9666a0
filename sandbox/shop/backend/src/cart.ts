/** Carts live in Redis, one hash for each visitor, for a month after their last change. */

import type { Cache } from "./cache.js";

/** Product number → quantity. */
export type Cart = Record<number, number>;

const CART_SECONDS = 30 * 24 * 3600;
const MOST_OF_ONE = 99;

export async function readCart(cache: Cache, visitor: string): Promise<Cart> {
  const stored = await cache.hGetAll(key(visitor));
  return Object.fromEntries(Object.entries(stored).map(([product, quantity]) => [Number(product), Number(quantity)]));
}

/** Set how many of one product are wanted; 0 takes it out. */
export async function putInCart(cache: Cache, visitor: string, product: number, quantity: number): Promise<Cart> {
  const wanted = Math.min(quantity, MOST_OF_ONE);
  const change = cache.multi();
  if (wanted > 0) change.hSet(key(visitor), String(product), String(wanted));
  else change.hDel(key(visitor), String(product));
  await change.expire(key(visitor), CART_SECONDS).exec();
  return readCart(cache, visitor);
}

export async function emptyCart(cache: Cache, visitor: string): Promise<void> {
  await cache.del(key(visitor));
}

function key(visitor: string): string {
  return `cart:${visitor}`;
}
