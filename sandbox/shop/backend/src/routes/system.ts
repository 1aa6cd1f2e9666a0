/** What machines ask: is it alive, is it ready, is it healthy, how is it doing. */

import type { FastifyInstance } from "fastify";
import { checkDatabase, healthReport, timed } from "../health.js";
import type { Services } from "../services.js";

const FRESH = "no-cache, no-store, must-revalidate";

export function systemRoutes(app: FastifyInstance, services: Services): void {
  const { config, release, metrics } = services;

  // Alive says nothing about dependencies: restarting this process would not bring a database back.
  app.get("/api/live", (_request, reply) => reply.header("cache-control", FRESH).send({ status: "alive" }));

  app.get("/api/ready", async (_request, reply) => {
    const check = await timed("database", () => checkDatabase(services));
    reply.header("cache-control", FRESH).status(check.status === "ok" ? 200 : 503);
    return { status: check.status === "ok" ? "ready" : "not ready", checks: [check] };
  });

  app.get("/api/health", async (_request, reply) => {
    const checks = await healthReport(services);
    const healthy = checks.every((check) => check.status === "ok");
    reply.header("cache-control", FRESH).status(healthy ? 200 : 503);
    return {
      status: healthy ? "healthy" : "unhealthy",
      timestamp: new Date().toISOString(),
      checks,
      version: config.git,
      release: release.version,
    };
  });

  app.get("/metrics", async (request, reply) => {
    // Scrapes come straight to the pod. A request that came through a proxy came from outside.
    if (request.headers["x-forwarded-for"]) return reply.callNotFound();
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
}
