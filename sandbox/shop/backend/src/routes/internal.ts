/** What our own other programs ask (the warehouse's, say): no person, no session, one key that they share with us. */

import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { answer } from "../app.js";
import type { Key } from "../config.js";
import { latestOrders } from "../orders.js";
import type { Services } from "../services.js";

export const INTERNAL_KEY_HEADER = "x-internal-key";

export function internalRoutes(app: FastifyInstance, { config, database, metrics }: Services): void {
  app.get("/api/internal/orders", async (request, reply) => {
    if (config.internalKeys.length === 0) return answer(request, reply, 501, "INTERNAL_API_KEY is not configured");
    const key = matching(request.headers[INTERNAL_KEY_HEADER], config.internalKeys);
    if (!key) return answer(request, reply, 401, `${INTERNAL_KEY_HEADER} is missing or wrong`);
    metrics.secretUses.inc({ secret: key.secret, which: key.which });
    return { orders: await latestOrders(database) };
  });
}

function matching(given: string | string[] | undefined, keys: Key[]): Key | undefined {
  // Digests have one length whatever was given, so the comparison takes one time.
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return typeof given === "string" ? keys.find(({ value }) => timingSafeEqual(digest(given), digest(value))) : undefined;
}
