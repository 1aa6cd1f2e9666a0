/** JSON lines on standard output. Callers log names, counts and codes; never headers, bodies, DSNs or tokens. */

import winston from "winston";

export const log = winston.createLogger({
  level: process.env["LOG_LEVEL"] || "info",
  format: winston.format.combine(winston.format.timestamp(), winston.format.json()),
  transports: [new winston.transports.Console()],
});

/** What may be said about an error: its code and message, without any credentials of a URL that it repeats. */
export function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join("; ");
  if (!(error instanceof Error)) return "unknown error";
  const code = (error as { code?: unknown }).code;
  return redact(typeof code === "string" ? `${code}: ${error.message}` : error.message);
}

/** A URL's user and password are cut out of a text, wherever they stand. */
export function redact(text: string): string {
  return text.replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, "$1***@");
}
