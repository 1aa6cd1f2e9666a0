/** From a cart to a paid order. */

import type pg from "pg";
import { columns } from "./catalogue.js";
import type { Cart } from "./cart.js";
import type { Release } from "./release.js";
import type { StripeEvent } from "./webhooks.js";

export interface Order {
  id: number;
  status: "pending" | "paid" | "failed";
  totalCents: number;
}

export class OutOfStock extends Error {}

const ORDER = 'id, status, total_cents AS "totalCents"';

/** Take the cart's products out of stock and write an order that waits for its payment. */
export async function placeOrder(database: pg.Pool, release: Release, userId: number, cart: Cart): Promise<Order> {
  const ids = Object.keys(cart).map(Number);
  return transaction(database, async (client) => {
    const { price } = columns(release);
    // Locked in one order of ids, so that two carts with the same products cannot wait for each other.
    const found = await client.query<{ id: number; price: number; stock: number }>(
      `SELECT id, ${price} AS price, stock FROM products WHERE id = ANY($1) ORDER BY id FOR UPDATE`,
      [ids],
    );
    const short = ids.filter((id) => (found.rows.find((row) => row.id === id)?.stock ?? 0) < (cart[id] ?? 0));
    if (short.length > 0) throw new OutOfStock(`not enough in stock of product ${short.join(", ")}`);
    const quantities = found.rows.map((row) => cart[row.id] ?? 0);
    const total = found.rows.reduce((sum, row) => sum + row.price * (cart[row.id] ?? 0), 0);
    const made = await client.query<Order>(`INSERT INTO orders (user_id, total_cents) VALUES ($1, $2) RETURNING ${ORDER}`, [userId, total]);
    const order = made.rows[0]!;
    await client.query(
      `INSERT INTO order_items (order_id, product_id, quantity, unit_price_cents)
       SELECT $1, * FROM unnest($2::int[], $3::int[], $4::int[])`,
      [order.id, found.rows.map((row) => row.id), quantities, found.rows.map((row) => row.price)],
    );
    await client.query(
      "UPDATE products SET stock = stock - taken.quantity FROM unnest($1::int[], $2::int[]) AS taken (id, quantity) WHERE products.id = taken.id",
      [found.rows.map((row) => row.id), quantities],
    );
    return order;
  });
}

export async function ordersOf(database: pg.Pool, userId: number): Promise<Order[]> {
  return (await database.query<Order>(`SELECT ${ORDER} FROM orders WHERE user_id = $1 ORDER BY id DESC LIMIT 100`, [userId])).rows;
}

/** The newest orders of everybody, for the people who run the shop. */
export async function latestOrders(database: pg.Pool): Promise<(Order & { email: string })[]> {
  const found = await database.query<Order & { email: string }>(
    `SELECT o.id, o.status, o.total_cents AS "totalCents", u.email FROM orders o JOIN users u ON u.id = o.user_id ORDER BY o.id DESC LIMIT 50`,
  );
  return found.rows;
}

const PAYMENT_STATUS: Record<string, "paid" | "failed"> = {
  "payment_intent.succeeded": "paid",
  "payment_intent.payment_failed": "failed",
};

/** Do what a genuine event says, once. Event types the shop has no use for are accepted and leave no trace. */
export async function applyEvent(database: pg.Pool, event: StripeEvent): Promise<"paid" | "failed" | "verified" | "ignored"> {
  const status = PAYMENT_STATUS[event.type];
  const identity = event.type === "identity.verification_session.verified";
  if (!status && !identity) return "ignored";
  return transaction(database, async (client) => {
    const fresh = await client.query("INSERT INTO payment_events (id, type) VALUES ($1, $2) ON CONFLICT DO NOTHING", [event.id, event.type]);
    if (fresh.rowCount === 0) return "ignored";
    const about = event.data.object.metadata ?? {};
    if (identity) {
      await client.query("UPDATE users SET verified_at = now() WHERE id = $1", [Number(about["user_id"]) || 0]);
      return "verified";
    }
    // A payment that failed may succeed when tried again; one that succeeded does not fail afterwards.
    await client.query("UPDATE orders SET status = $2 WHERE id = $1 AND status <> 'paid'", [Number(about["order_id"]) || 0, status]);
    return status!;
  });
}

async function transaction<T>(database: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await database.connect();
  let broken: Error | undefined;
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch((lost: Error) => (broken = lost));
    throw error;
  } finally {
    client.release(broken);
  }
}
