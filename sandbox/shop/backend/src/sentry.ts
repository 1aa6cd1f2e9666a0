/** Errors go to Sentry when SENTRY_DSN is set; without it the SDK is not even loaded. */

let sentry: typeof import("@sentry/node-core/light") | undefined;

const FLUSH_MILLISECONDS = 2_000;

export async function startSentry(dsn: string | undefined, release: string): Promise<void> {
  if (!dsn) return;
  sentry = await import("@sentry/node-core/light");
  sentry.init({ dsn, release, sendDefaultPii: false });
}

export function reportError(error: unknown): void {
  sentry?.captureException(error);
}

/** Send what is still waiting to be sent. */
export async function flushSentry(): Promise<void> {
  await sentry?.close(FLUSH_MILLISECONDS);
}
