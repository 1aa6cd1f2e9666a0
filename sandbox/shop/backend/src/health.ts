/** What the shop depends on, and whether it is there. */

import { connect } from "node:net";
import { schemaLevel } from "./database.js";
import { describe } from "./log.js";
import type { Services } from "./services.js";

const CHECK_MILLISECONDS = 3_000;

export interface Check {
  name: string;
  status: "ok" | "error";
  detail: string;
  durationMs: number;
}

/** Ready: this process can answer requests on the database as it is now. */
export async function checkDatabase({ database, release }: Services): Promise<string> {
  const level = await schemaLevel(database);
  const { min, max } = release.schema;
  if (level < min || level > max) {
    throw new Error(`database is at schema level ${level}; release ${release.version} serves on ${min} to ${max}`);
  }
  return `schema level ${level}`;
}

export async function healthReport(services: Services): Promise<Check[]> {
  return Promise.all([
    timed("database", () => checkDatabase(services)),
    timed("auth", () => checkAuth(services)),
    timed("payments", () => checkPayments(services)),
    timed("cache", () => checkCache(services)),
    timed("external", () => checkExternal(services)),
    timed("itself", () => checkItself(services)),
  ]);
}

export async function timed(name: string, check: () => Promise<string>): Promise<Check> {
  const start = performance.now();
  const result = { name, durationMs: 0 };
  try {
    const detail = await withDeadline(check());
    return { ...result, status: "ok", detail, durationMs: Math.round(performance.now() - start) };
  } catch (error) {
    return { ...result, status: "error", detail: describe(error), durationMs: Math.round(performance.now() - start) };
  }
}

/** A token that was signed is read back, with the keys in use. */
async function checkAuth({ auth, config }: Services): Promise<string> {
  if (!(await auth.works())) throw new Error("a token just signed is not accepted");
  return `${config.jwtKeys.length} key(s) accepted`;
}

/** Only a release that is broken on purpose has something to tell. */
function checkItself({ faults }: Services): Promise<string> {
  faults.check();
  return Promise.resolve("serves");
}

async function checkCache({ cache }: Services): Promise<string> {
  await cache.ping();
  return "answers";
}

/** Secrets are there; with PAYMENTS_API_URL, the payment provider accepts ours as well. */
async function checkPayments({ config }: Services): Promise<string> {
  if (!config.stripeKey) throw new Error("STRIPE_SECRET_KEY is not set");
  if (config.webhookKeys.length === 0) throw new Error("STRIPE_WEBHOOK_SECRET is not set");
  if (!config.paymentsApiUrl) return `${config.webhookKeys.length} webhook secret(s) accepted; provider not asked (no PAYMENTS_API_URL)`;
  const answer = await fetch(new URL("/v1/balance", config.paymentsApiUrl), {
    headers: { authorization: `Bearer ${config.stripeKey}` },
    signal: AbortSignal.timeout(CHECK_MILLISECONDS),
  });
  if (!answer.ok) throw new Error(`payment provider answered ${answer.status}`);
  return "payment provider accepts the key";
}

async function checkExternal({ config }: Services): Promise<string> {
  const names = [...config.externalUrls.map((url) => url.host), ...(config.smtpUrl ? ["mail"] : [])];
  await Promise.all([...config.externalUrls.map(reachable), ...(config.smtpUrl ? [greeted(config.smtpUrl)] : [])]);
  return names.length > 0 ? names.join(", ") : "nothing configured";
}

async function reachable(url: URL): Promise<void> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(CHECK_MILLISECONDS) });
  if (answer.status >= 500) throw new Error(`${url.host} answered ${answer.status}`);
}

/** A mail server speaks first. */
function greeted(url: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: url.hostname, port: Number(url.port || 25), timeout: CHECK_MILLISECONDS });
    socket.once("data", () => {
      socket.end("QUIT\r\n");
      resolve();
    });
    socket.once("timeout", () => socket.destroy(new Error("mail server does not answer")));
    socket.once("error", reject);
  });
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CHECK_MILLISECONDS} ms`)), CHECK_MILLISECONDS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
