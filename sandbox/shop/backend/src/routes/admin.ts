/** Pages for the people who run the shop. */

import type { FastifyInstance } from "fastify";
import { answer, tokenOf } from "../app.js";
import { latestOrders } from "../orders.js";
import * as pages from "../pages.js";
import type { Services } from "../services.js";

export function adminRoutes(app: FastifyInstance, { auth, database }: Services): void {
  app.addHook("preHandler", async (request, reply) => {
    if (!/^\/admin(\/|$)/.test(request.routeOptions.url ?? "")) return;
    request.user = await auth.user(tokenOf(request));
    if (!request.user) return reply.redirect("/login", 303);
    if (request.user.role !== "admin") return answer(request, reply, 403, "this page is for administrators");
  });

  const overview = async () => pages.admin(await latestOrders(database));
  app.get("/admin", async (_request, reply) => reply.type("text/html; charset=utf-8").send(await overview()));
  app.get("/admin/orders", async (_request, reply) => reply.type("text/html; charset=utf-8").send(await overview()));
}
