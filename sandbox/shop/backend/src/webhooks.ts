/** Stripe's webhook signatures: header `t=<seconds>,v1=<hex>`, HMAC-SHA256 over `<t>.<raw body>`. */

import { createHmac, timingSafeEqual } from "node:crypto";
import type { Key } from "./config.js";

export const TOLERANCE_SECONDS = 300;

export class SignatureError extends Error {}

/** The event in `body`, if one of `keys` signed it recently, and which one. */
export function verifiedEvent(body: Buffer, header: string | undefined, keys: Key[], now = Date.now()): { event: StripeEvent; key: Key } {
  const pairs = (header ?? "").split(",").map((part) => part.split("=", 2) as [string, string | undefined]);
  const time = Number(pairs.find(([name]) => name === "t")?.[1] ?? NaN);
  const signatures = pairs.filter(([name]) => name === "v1").map(([, value]) => Buffer.from(value ?? "", "hex"));
  if (!Number.isInteger(time) || signatures.length === 0) throw new SignatureError("no signature");
  const key = keys.find(({ value }) => {
    const expected = hmac(time, body, value);
    return signatures.some((given) => given.length === expected.length && timingSafeEqual(given, expected));
  });
  if (!key) throw new SignatureError("wrong signature");
  // A future date is as wrong as an old one: it would keep a captured request valid for longer.
  if (Math.abs(now / 1000 - time) > TOLERANCE_SECONDS) throw new SignatureError("signed too long ago");
  return { event: JSON.parse(body.toString("utf8")) as StripeEvent, key };
}

/** The header that Stripe would send with `body`. */
export function signatureHeader(body: string, secret: string, time = Math.floor(Date.now() / 1000)): string {
  return `t=${time},v1=${hmac(time, Buffer.from(body), secret).toString("hex")}`;
}

export interface StripeEvent {
  id: string;
  type: string;
  data: { object: { id?: string; metadata?: Record<string, string> } };
}

function hmac(time: number, body: Buffer, secret: string): Buffer {
  return createHmac("sha256", secret).update(`${time}.`).update(body).digest();
}
