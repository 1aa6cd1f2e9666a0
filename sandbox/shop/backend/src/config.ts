/** What the environment says, read once. An error names the variable and never its value. */

export class ConfigError extends Error {}

export interface Config {
  port: number;
  databaseUrl: string;
  redisUrl: string;
  publicUrl: URL | undefined;
  git: string;
  jwtSecrets: Secrets;
  sessionSecrets: Secrets;
  stripeKey: string | undefined;
  webhookSecrets: string[];
  identityWebhookSecrets: string[];
  paymentsApiUrl: URL | undefined;
  smtpUrl: URL | undefined;
  externalUrls: URL[];
  sentryDsn: string | undefined;
  drainQuietMilliseconds: number | undefined;
}

/** The value in use, then the one before it, which stays valid while a rotation is under way. */
export type Secrets = [current: string, ...previous: string[]];

type Environment = Record<string, string | undefined>;

export function readConfig(env: Environment = process.env): Config {
  return {
    port: wholeNumber(env, "PORT", 3000, 65_535),
    databaseUrl: required(env, "DATABASE_URL"),
    redisUrl: required(env, "REDIS_URL"),
    publicUrl: optionalUrl(env, "PUBLIC_URL"),
    git: env["RELEASE_GIT"] || "unknown",
    jwtSecrets: [required(env, "JWT_SECRET"), ...previous(env, "JWT_SECRET")],
    sessionSecrets: [required(env, "SESSION_SECRET"), ...previous(env, "SESSION_SECRET")],
    stripeKey: env["STRIPE_SECRET_KEY"] || undefined,
    webhookSecrets: both(env, "STRIPE_WEBHOOK_SECRET"),
    identityWebhookSecrets: both(env, "STRIPE_IDENTITY_WEBHOOK_SECRET"),
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

/** Current value and, during a rotation, the previous one; empty if the secret is not configured. */
export function both(env: Environment, name: string): string[] {
  return [env[name], ...previous(env, name)].filter((value): value is string => Boolean(value));
}

export function optionalUrl(env: Environment, name: string): URL | undefined {
  const text = env[name];
  return text ? parseUrl(name, text) : undefined;
}

function previous(env: Environment, name: string): string[] {
  const value = env[`${name}_PREVIOUS`];
  return value ? [value] : [];
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
