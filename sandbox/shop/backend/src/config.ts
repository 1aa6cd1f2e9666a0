/** What the environment says, read once. An error names the variable and never its value. */

export class ConfigError extends Error {}

export interface Config {
  port: number;
  databaseUrl: string;
  redisUrl: string;
  publicUrl: URL | undefined;
  git: string;
  jwtKeys: Key[];
  sessionKeys: Key[];
  internalKeys: Key[];
  stripeKey: string | undefined;
  webhookKeys: Key[];
  identityWebhookKeys: Key[];
  paymentsApiUrl: URL | undefined;
  smtpUrl: URL | undefined;
  externalUrls: URL[];
  sentryDsn: string | undefined;
  drainQuietMilliseconds: number | undefined;
}

/** Secrets that others prove something to us with: each is accepted in two values while it rotates. */
export const ROTATING = ["JWT_SECRET", "SESSION_SECRET", "INTERNAL_API_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET"] as const;

export type Rotating = (typeof ROTATING)[number];

/** One value of a secret. We sign with the current one; the previous one is accepted, be it the one before or the one to come. */
export interface Key {
  secret: Rotating;
  which: "current" | "previous";
  value: string;
  /** Name of this value, the same in every process and never used again. */
  id: string | undefined;
}

type Environment = Record<string, string | undefined>;

export function readConfig(env: Environment = process.env): Config {
  return {
    port: wholeNumber(env, "PORT", 3000, 65_535),
    databaseUrl: required(env, "DATABASE_URL"),
    redisUrl: required(env, "REDIS_URL"),
    publicUrl: optionalUrl(env, "PUBLIC_URL"),
    git: env["RELEASE_GIT"] || "unknown",
    jwtKeys: requiredKeys(env, "JWT_SECRET"),
    sessionKeys: requiredKeys(env, "SESSION_SECRET"),
    internalKeys: keys(env, "INTERNAL_API_KEY"),
    stripeKey: env["STRIPE_SECRET_KEY"] || undefined,
    webhookKeys: keys(env, "STRIPE_WEBHOOK_SECRET"),
    identityWebhookKeys: keys(env, "STRIPE_IDENTITY_WEBHOOK_SECRET"),
    paymentsApiUrl: optionalUrl(env, "PAYMENTS_API_URL"),
    smtpUrl: optionalUrl(env, "SMTP_URL"),
    externalUrls: (env["EXTERNAL_URLS"] ?? "").split(",").filter(Boolean).map((text) => parseUrl("EXTERNAL_URLS", text.trim())),
    sentryDsn: env["SENTRY_DSN"] || undefined,
    drainQuietMilliseconds: env["DRAIN_QUIET_MS"] ? wholeNumber(env, "DRAIN_QUIET_MS", 0, 60_000) : undefined,
  };
}

export function required(env: Environment, name: string): string {
  const value = env[name];
  if (!value) throw new ConfigError(`${name} is not set`);
  return value;
}

/** The values accepted, the current one first; none if the secret is not configured. */
export function keys(env: Environment, secret: Rotating): Key[] {
  return (["current", "previous"] as const).flatMap((which) => {
    const name = which === "current" ? secret : `${secret}_PREVIOUS`;
    const value = env[name];
    return value ? [{ secret, which, value, id: env[`${name}_ID`] || undefined }] : [];
  });
}

export function requiredKeys(env: Environment, secret: Rotating): Key[] {
  required(env, secret);
  return keys(env, secret);
}

export function optionalUrl(env: Environment, name: string): URL | undefined {
  const text = env[name];
  return text ? parseUrl(name, text) : undefined;
}

function parseUrl(name: string, text: string): URL {
  if (!URL.canParse(text)) throw new ConfigError(`${name} is not a URL (expected e.g. https://host/path)`);
  return new URL(text);
}

function wholeNumber(env: Environment, name: string, fallback: number, most: number): number {
  const value = Number(env[name] || fallback);
  if (!Number.isInteger(value) || value < 0 || value > most) throw new ConfigError(`${name} must be a whole number from 0 to ${most}`);
  return value;
}
