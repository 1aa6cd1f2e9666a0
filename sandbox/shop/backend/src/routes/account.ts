/** Accounts: register, log in and out, who am I, and leave. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { answer, tokenOf } from "../app.js";
import { SESSION_SECONDS, createUser } from "../auth.js";
import * as pages from "../pages.js";
import { tell } from "../security.js";
import type { Services } from "../services.js";

interface Credentials {
  email: string;
  password: string;
}

const CREDENTIALS = {
  type: "object",
  required: ["email", "password"],
  properties: { email: { type: "string", pattern: "^[^@\\s]+@[^@\\s]+$", maxLength: 254 }, password: { type: "string", minLength: 8, maxLength: 200 } },
} as const;

/** Hook for routes that need somebody who is logged in. */
export function signedIn({ auth }: Services) {
  return async (request: FastifyRequest, reply: FastifyReply) => {
    request.user = await auth.user(tokenOf(request));
    if (!request.user) return answer(request, reply, 401, "log in first");
  };
}

export function accountRoutes(app: FastifyInstance, services: Services): void {
  const { auth, config, database, metrics } = services;

  const logIn = async (request: FastifyRequest<{ Body: Credentials }>) => {
    const token = await auth.logIn(request.body.email, request.body.password);
    metrics.logins.inc({ result: token ? "accepted" : "refused" });
    if (!token) tell("refused_login", request);
    return token;
  };
  const remember = (reply: FastifyReply, token: string) =>
    reply.setCookie("token", token, {
      httpOnly: true, sameSite: "lax", path: "/", secure: config.publicUrl?.protocol === "https:", maxAge: SESSION_SECONDS,
    });

  app.get("/api/auth/status", async (request) => {
    const user = await auth.user(tokenOf(request));
    return { status: "ok", authenticated: user !== null, ...(user ? { user: { email: user.email, role: user.role } } : {}) };
  });

  app.post<{ Body: Credentials }>("/api/auth/register", { schema: { body: CREDENTIALS } }, async (request, reply) => {
    const user = await createUser(database, request.body.email, request.body.password);
    if (!user) return answer(request, reply, 409, "this address has an account already");
    return reply.status(201).send({ id: user.id, email: user.email });
  });

  app.post<{ Body: Credentials }>("/api/auth/login", { schema: { body: CREDENTIALS } }, async (request, reply) => {
    const token = await logIn(request);
    if (!token) return answer(request, reply, 401, "e-mail or password is wrong");
    return remember(reply, token).send({ token, expiresIn: SESSION_SECONDS });
  });

  app.post("/api/auth/logout", async (request, reply) => {
    const token = tokenOf(request);
    if (token) await auth.logOut(token);
    return reply.clearCookie("token", { path: "/" }).status(204).send();
  });

  app.delete("/api/account", { preHandler: signedIn(services) }, async (request, reply) => {
    await database.query("DELETE FROM users WHERE id = $1", [request.user!.id]);
    await auth.logOut(tokenOf(request)!);
    return reply.clearCookie("token", { path: "/" }).status(204).send();
  });

  app.get("/login", (_request, reply) => reply.type("text/html; charset=utf-8").send(pages.login()));

  app.post<{ Body: Credentials }>("/login", { schema: { body: CREDENTIALS } }, async (request, reply) => {
    const token = await logIn(request);
    if (token) return remember(reply, token).redirect("/", 303);
    return reply.status(401).type("text/html; charset=utf-8").send(pages.login("Adresse ou mot de passe inconnus."));
  });
}
