/** Errors go to Sentry when SENTRY_DSN is set; without it the SDK is not even loaded. */

let report: ((error: unknown) => void) | undefined;

export async function startSentry(dsn: string | undefined, release: string): Promise<void> {
  if (!dsn) return;
  const sentry = await import("@sentry/node-core/light");
  sentry.init({ dsn, release, sendDefaultPii: false });
  report = (error) => void sentry.captureException(error);
}

export function reportError(error: unknown): void {
  report?.(error);
}
