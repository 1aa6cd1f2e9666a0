/** The web server, put together: hooks that hold for every request, then the routes. */

import { randomUUID } from "node:crypto";
import cookie from "@fastify/cookie";
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { User } from "./auth.js";
import { KEEP_ALIVE_MILLISECONDS, type Drain } from "./drain.js";
import { describe, log } from "./log.js";
import * as pages from "./pages.js";
import { accountRoutes } from "./routes/account.js";
import { adminRoutes } from "./routes/admin.js";
import { internalRoutes } from "./routes/internal.js";
import { shopRoutes } from "./routes/shop.js";
import { systemRoutes } from "./routes/system.js";
import { webhookRoutes } from "./routes/webhooks.js";
import { sourceOf, tell } from "./security.js";
import { reportError } from "./sentry.js";
import type { Services } from "./services.js";

declare module "fastify" {
  interface FastifyRequest {
    user: User | null;
  }
}

const BODY_BYTES = 256 * 1024;

/** Crude on purpose: it does not protect (every query is parametrised), it counts for the alert. */
const SQL_INJECTION = /('|%27)\s*(or|and|union|;|--)|union[\s+]+(all[\s+]+)?select|;\s*(drop|delete|update)\s/i;

export async function createApp(services: Services, drain: Drain): Promise<FastifyInstance> {
  const app = Fastify({
    logger: false,
    genReqId: () => randomUUID(),
    bodyLimit: BODY_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    // While closing, requests that are already on a connection are answered, not refused.
    return503OnClosing: false,
    forceCloseConnections: "idle",
  });
  drain.watch(app);
  observe(app, services);
  await app.register(cookie, { secret: services.config.sessionKeys.map(({ value }) => value) });
  app.addContentTypeParser("application/x-www-form-urlencoded", { parseAs: "string" }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(String(body))));
  });
  app.decorateRequest("user", null);
  app.addHook("onSend", secure);
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request, reply) => answer(request, reply, 404, "not found"));
  systemRoutes(app, services);
  shopRoutes(app, services);
  accountRoutes(app, services);
  adminRoutes(app, services);
  internalRoutes(app, services);
  await app.register((scope, _options, done) => {
    webhookRoutes(scope, services);
    done();
  });
  return app;
}

/** A bearer token or the session's cookie. */
export function tokenOf(request: FastifyRequest): string | undefined {
  const header = request.headers.authorization;
  return header?.startsWith("Bearer ") ? header.slice(7) : request.cookies["token"];
}

/** JSON for programs, a page for people. */
export function answer(request: FastifyRequest, reply: FastifyReply, status: number, text: string): FastifyReply {
  reply.status(status);
  if (request.url.startsWith("/api/")) return reply.send({ error: text });
  return reply.type("text/html; charset=utf-8").send(pages.message(String(status), text));
}

function observe(app: FastifyInstance, { metrics }: Services): void {
  app.addHook("onRequest", (request, _reply, next) => {
    if (SQL_INJECTION.test(safeDecode(request.url))) {
      metrics.suspicious.inc({ kind: "sql_injection", source: sourceOf(request) });
      tell("sql_injection", request);
    }
    next();
  });
  app.addHook("onResponse", (request, reply, next) => {
    // The route's pattern, not the address: metrics with one series for each address grow without end.
    const route = request.routeOptions.url ?? "unknown";
    metrics.requests.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
    const level = reply.statusCode >= 500 ? "error" : route.startsWith("/api/live") || route.startsWith("/api/ready") ? "debug" : "info";
    log.log(level, "request", {
      id: request.id,
      method: request.method,
      route,
      status: reply.statusCode,
      milliseconds: Math.round(reply.elapsedTime),
    });
    next();
  });
}

function secure(_request: FastifyRequest, reply: FastifyReply, payload: unknown, next: (error: null, payload: unknown) => void): void {
  reply.header("x-content-type-options", "nosniff");
  reply.header("referrer-policy", "same-origin");
  reply.header("content-security-policy", "default-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'");
  next(null, payload);
}

function answerError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const status = error.statusCode ?? 500;
  if (status < 500) return answer(request, reply, status, error.message);
  log.error("request failed", { id: request.id, route: request.routeOptions.url, error: describe(error) });
  reportError(error);
  return answer(request, reply, status, "internal error");
}

function safeDecode(url: string): string {
  try {
    return decodeURIComponent(url);
  } catch {
    return url;
  }
}
