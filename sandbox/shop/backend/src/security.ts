/** What somebody has to hear of: one log line each, beside the metric. Never what was asked, nor by whom. */

import { createHash } from "node:crypto";
import { log } from "./log.js";

export type SecurityEvent = "sql_injection" | "refused_login" | "refused_webhook";

const GROUPS = 32;
/** Attacks count for each source. A series for each address would grow without end, and name people: these are groups. */
export const SOURCES = Array.from({ length: GROUPS }, (_, group) => String(group));

/** The group of the client, whose address the ingress controller wrote last. */
export function sourceOf(request: { ip: string; headers: { [name: string]: string | string[] | undefined } }): string {
  const forwarded = String(request.headers["x-forwarded-for"] ?? "").split(",").at(-1)?.trim();
  const address = forwarded || request.ip;
  return String(createHash("sha256").update(address).digest().readUInt8(0) % GROUPS);
}

/** `request` is an identifier and the route's pattern, which hold nothing that the sender chose. */
export function tell(event: SecurityEvent, request: { id: string; routeOptions: { url?: string | undefined } }): void {
  log.warn("security event", { event, id: request.id, route: request.routeOptions.url ?? "unknown" });
}
