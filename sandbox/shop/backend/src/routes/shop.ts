/** Pages and API for people who buy. */

import { randomUUID } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { answer } from "../app.js";
import { emptyCart, putInCart, readCart } from "../cart.js";
import { OutOfStock, ordersOf, placeOrder } from "../orders.js";
import * as pages from "../pages.js";
import type { Services } from "../services.js";
import { signedIn } from "./account.js";

const VISITOR_SECONDS = 30 * 24 * 3600;

export function shopRoutes(app: FastifyInstance, services: Services): void {
  const { cache, catalogue, database, faults, metrics, release } = services;

  app.get("/", (_request, reply) => html(reply, pages.home(release.version)));

  app.get("/shop", async (_request, reply) => {
    await faults.meet();
    const products = await catalogue.products();
    return html(reply, pages.shop(release.fault === "empty-shop" ? [] : products));
  });

  app.get<{ Querystring: { origin?: string } }>("/api/products", async (request) => {
    await faults.meet();
    const products = await catalogue.products();
    const { origin } = request.query;
    return { products: origin ? products.filter((product) => product.origin === origin) : products };
  });

  app.get("/api/cart", async (request, reply) => ({ items: await readCart(cache, visitor(request, reply, services)) }));

  app.put<{ Body: { product: number; quantity: number } }>(
    "/api/cart",
    {
      schema: {
        body: {
          type: "object",
          required: ["product", "quantity"],
          properties: { product: { type: "integer", minimum: 1 }, quantity: { type: "integer", minimum: 0, maximum: 99 } },
        },
      },
    },
    async (request, reply) => {
      const { product, quantity } = request.body;
      if (!(await catalogue.products()).some(({ id }) => id === product)) return answer(request, reply, 404, `there is no product ${product}`);
      return { items: await putInCart(cache, visitor(request, reply, services), product, quantity) };
    },
  );

  app.get("/api/orders", { preHandler: signedIn(services) }, async (request) => {
    await faults.meet();
    return { orders: await ordersOf(database, request.user!.id) };
  });

  app.post("/api/orders", { preHandler: signedIn(services) }, async (request, reply) => {
    await faults.meet();
    const who = visitor(request, reply, services);
    const cart = await readCart(cache, who);
    if (Object.keys(cart).length === 0) return answer(request, reply, 409, "the cart is empty");
    try {
      const order = await placeOrder(database, release, request.user!.id, cart);
      await emptyCart(cache, who);
      metrics.orders.inc();
      return await reply.status(201).send(order);
    } catch (error) {
      if (error instanceof OutOfStock) return answer(request, reply, 409, error.message);
      throw error;
    }
  });
}

/** The visitor's number, from a signed cookie; a new one for a new visitor. */
function visitor(request: FastifyRequest, reply: FastifyReply, { config, metrics }: Services): string {
  const given = request.cookies["visitor"] ? request.unsignCookie(request.cookies["visitor"]) : null;
  if (given?.valid) metrics.secretUses.inc({ secret: "SESSION_SECRET", which: given.renew ? "previous" : "current" });
  // A cookie that only the previous secret signed is written again, so that it outlives the rotation.
  if (given?.valid && given.value && !given.renew) return given.value;
  const id = given?.valid && given.value ? given.value : randomUUID();
  reply.setCookie("visitor", id, {
    signed: true, httpOnly: true, sameSite: "lax", path: "/", secure: config.publicUrl?.protocol === "https:", maxAge: VISITOR_SECONDS,
  });
  return id;
}

function html(reply: FastifyReply, text: string): FastifyReply {
  return reply.type("text/html; charset=utf-8").send(text);
}
