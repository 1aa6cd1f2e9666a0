/** Checks of a running shop. Each returns what it saw, or throws what is wrong. Test data is removed again. */

import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { decodeJwt } from "jose";
import { keys as keysOf, requiredKeys, type Key } from "../config.js";
import { signToken, verifiedSession } from "../auth.js";
import type { Check } from "../health.js";
import { INTERNAL_KEY_HEADER } from "../routes/internal.js";
import { until } from "../commands/command.js";
import { signatureHeader } from "../webhooks.js";
import { Client, tokenFile } from "./client.js";

export const checks: Record<string, (client: Client) => Promise<string>> = {
  release,
  pages,
  account,
  cart,
  keys,
  latency,
  payments,
  token,
  tokens,
  webhooks,
};

const ROLLOUT_SECONDS = 30;

/** A balancer sends to a pod that leaves, with the secrets before, for a moment longer (kube-proxy 1 s, Traefik 2 s). */
const BALANCER_SECONDS = 5;

/** Healthy, and the release that was meant (RELEASE_GIT), as far as that is known here. */
async function release(client: Client): Promise<string> {
  const expected = process.env["RELEASE_GIT"];
  // A balancer may still know a pod of the release before for a moment.
  return until("not healthy", ROLLOUT_SECONDS, async () => {
    const answer = await client.send("GET", "/api/health");
    const report = (await answer.json()) as { status: string; version: string; release: string; checks?: Check[] };
    const broken = report.checks?.filter((check) => check.status !== "ok").map((check) => `${check.name}: ${check.detail}`);
    if (answer.status !== 200) throw new Error(`/api/health answered ${answer.status} (${broken?.join("; ") ?? "no report"})`);
    if (!answer.headers.get("cache-control")?.includes("no-store")) throw new Error("/api/health may be cached on its way");
    if (expected && report.version !== expected) throw new Error(`version ${report.version} answers, expected ${expected}`);
    return `release ${report.release}, version ${report.version}`;
  });
}

/** Pages that must never break, with what must be on them. */
async function pages(client: Client): Promise<string> {
  await client.expect(200, "GET", "/");
  await client.expect(200, "GET", "/api/auth/status");
  const admin = await client.send("GET", "/admin");
  if (admin.status !== 303) throw new Error(`/admin answered ${admin.status} to somebody who is not logged in`);
  const { products } = await client.json<{ products: unknown[] }>("GET", "/api/products");
  const listed = (await (await client.expect(200, "GET", "/shop")).text()).match(/data-product=/g)?.length ?? 0;
  if (products.length === 0 || listed !== products.length) {
    throw new Error(`/shop shows ${listed} products, the catalogue has ${products.length}`);
  }
  return `/shop shows ${listed} products`;
}

async function account(client: Client): Promise<string> {
  return asVisitor(client, async () => {
    const { authenticated } = await client.json<{ authenticated: boolean }>("GET", "/api/auth/status");
    if (!authenticated) throw new Error("logged in, but /api/auth/status says not");
    return "register, log in and status work";
  });
}

async function cart(client: Client): Promise<string> {
  const product = await anyProduct(client);
  await client.expect(200, "PUT", "/api/cart", { product, quantity: 2 });
  const { items } = await client.json<{ items: Record<string, number> }>("GET", "/api/cart");
  if (items[product] !== 2) throw new Error("what was put into the cart is not in it");
  await client.expect(200, "PUT", "/api/cart", { product, quantity: 0 });
  return "put in, read back, taken out";
}

/** The running shop signs with the JWT_SECRET known here, its payment keys pass its own check, its internal key opens. */
async function keys(client: Client): Promise<string> {
  const [current] = requiredKeys(process.env, "JWT_SECRET");
  await until("the shop does not sign with the JWT_SECRET given here", BALANCER_SECONDS, () =>
    asVisitor(client, async () => {
      if (!(await verifiedSession(client.token!, [current!]))) throw new Error("a token just given has another signature");
    }),
  );
  const report = (await (await client.send("GET", "/api/health")).json()) as { checks: Check[] };
  const found = ["auth", "payments"].map((name) => report.checks.find((check) => check.name === name)!);
  for (const check of found) if (check.status !== "ok") throw new Error(`${check.name}: ${check.detail}`);
  return [...found.map((check) => check.detail), await internal(client)].join("; ");
}

/** Each of our internal keys opens what is internal; nothing else does. */
async function internal(client: Client): Promise<string> {
  const known = keysOf(process.env, "INTERNAL_API_KEY");
  const ask = (status: number, key: string) => client.expect(status, "GET", "/api/internal/orders", undefined, { [INTERNAL_KEY_HEADER]: key });
  await ask(known.length > 0 ? 401 : 501, randomBytes(24).toString("hex"));
  for (const { value } of known) await until("internal key not accepted", BALANCER_SECONDS, () => ask(200, value));
  return `${known.length} internal key(s) accepted`;
}

const LATENCY_REQUESTS = 20;

async function latency(client: Client): Promise<string> {
  const limit = Number(process.env["P95_LIMIT_MS"] || 3000);
  const times: number[] = [];
  for (let turn = 0; turn < LATENCY_REQUESTS; turn += 1) {
    const start = performance.now();
    await (await client.expect(200, "GET", turn % 2 ? "/shop" : "/")).arrayBuffer();
    times.push(performance.now() - start);
  }
  const p95 = Math.round(times.sort((a, b) => a - b)[Math.ceil(times.length * 0.95) - 1]!);
  if (p95 > limit) throw new Error(`95 % of the pages came within ${p95} ms, the limit is ${limit} ms`);
  return `95 % of the pages within ${p95} ms (limit ${limit} ms)`;
}

/** An order is placed, the payment event arrives, the order is paid. */
async function payments(client: Client): Promise<string> {
  const [key] = requiredKeys(process.env, "STRIPE_WEBHOOK_SECRET");
  return asVisitor(client, async () => {
    await client.expect(200, "PUT", "/api/cart", { product: await anyProduct(client), quantity: 1 });
    const order = await client.json<{ id: number; status: string }>("POST", "/api/orders");
    const event = eventText("payment_intent.succeeded", { order_id: String(order.id) });
    await deliver(client, "/api/webhooks/stripe", event, key!.value, 200);
    await deliver(client, "/api/webhooks/stripe", event, key!.value, 200);
    const { orders } = await client.json<{ orders: { id: number; status: string }[] }>("GET", "/api/orders");
    const status = orders.find(({ id }) => id === order.id)?.status;
    if (status !== "paid") throw new Error(`order ${order.id} is ${status ?? "gone"} after its payment event`);
    return `order ${order.id} paid`;
  });
}

/** The token that tokens:get:staging left is accepted. */
async function token(client: Client): Promise<string> {
  client.token = readFileSync(tokenFile(), "utf8").trim();
  const status = await client.json<{ authenticated: boolean; user?: { role: string } }>("GET", "/api/auth/status");
  if (!status.authenticated) throw new Error("the token is not accepted; get a new one with tokens:get:staging");
  return `accepted, role ${status.user?.role}`;
}

/** A token signed with the JWT_SECRET given here, with which the shop does not sign, is accepted; a forged one is not. */
async function tokens(client: Client): Promise<string> {
  const [signer] = requiredKeys(process.env, "JWT_SECRET");
  return until("the other JWT_SECRET is not accepted", BALANCER_SECONDS, () =>
    asVisitor(client, async () => {
      if (await verifiedSession(client.token!, [signer!])) throw new Error("the shop signs with the JWT_SECRET given here");
      const session = String(decodeJwt(client.token!)["sid"]);
      for (const [value, accepted] of [[signer!.value, true], [randomBytes(24).toString("hex"), false]] as const) {
        const holder = new Client(client.target); // without the cookie that the log-in set
        holder.token = await signToken(session, { ...signer!, value });
        const { authenticated } = await holder.json<{ authenticated: boolean }>("GET", "/api/auth/status");
        if (authenticated !== accepted) throw new Error(accepted ? "its token is refused" : "a forged token is accepted");
      }
      return `a token of the other JWT_SECRET${signer!.id ? ` (${signer!.id})` : ""} is accepted`;
    }),
  );
}

/** Each endpoint takes what each of our secrets signed, and refuses everything else. */
async function webhooks(client: Client): Promise<string> {
  const done = [await endpoint(client, "/api/webhooks/stripe", requiredKeys(process.env, "STRIPE_WEBHOOK_SECRET"))];
  const identity = keysOf(process.env, "STRIPE_IDENTITY_WEBHOOK_SECRET");
  if (identity.length > 0) done.push(await endpoint(client, "/api/webhooks/stripe-identity", identity));
  return done.join("; ");
}

async function endpoint(client: Client, path: string, known: Key[]): Promise<string> {
  const event = eventText("runbook.webhook_check", {});
  for (const { value } of known) await until("not accepted", BALANCER_SECONDS, () => deliver(client, path, event, value, 200));
  await deliver(client, path, event, randomBytes(24).toString("hex"), 400);
  await deliver(client, path, event, known[0]!.value, 400, Math.floor(Date.now() / 1000) - 3600);
  await client.expect(400, "POST", path, event);
  return `${path} takes ${known.length} secret(s), refuses forged, old and unsigned events`;
}

async function deliver(client: Client, path: string, event: string, secret: string, status: number, time?: number): Promise<void> {
  await client.expect(status, "POST", path, event, { "stripe-signature": signatureHeader(event, secret, time) });
}

function eventText(type: string, metadata: Record<string, string>): string {
  return JSON.stringify({ id: `evt_check_${randomUUID()}`, object: "event", type, livemode: false, data: { object: { metadata } } });
}

async function anyProduct(client: Client): Promise<number> {
  const { products } = await client.json<{ products: { id: number }[] }>("GET", "/api/products");
  if (!products[0]) throw new Error("the catalogue is empty");
  return products[0].id;
}

/** Do something as a customer who exists only meanwhile. */
async function asVisitor<T>(client: Client, work: () => Promise<T>): Promise<T> {
  const credentials = { email: `check-${randomUUID()}@example.invalid`, password: randomBytes(18).toString("base64url") };
  await client.expect(201, "POST", "/api/auth/register", credentials);
  client.token = (await client.json<{ token: string }>("POST", "/api/auth/login", credentials)).token;
  try {
    return await work();
  } finally {
    await client.expect(204, "DELETE", "/api/account");
    client.token = undefined;
  }
}
