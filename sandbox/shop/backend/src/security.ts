/** What somebody has to hear of: one log line each, beside the metric. Never what was asked, nor by whom. */

import { log } from "./log.js";

export type SecurityEvent = "sql_injection" | "refused_login" | "refused_webhook";

/** `request` is an identifier and the route's pattern, which hold nothing that the sender chose. */
export function tell(event: SecurityEvent, request: { id: string; routeOptions: { url?: string | undefined } }): void {
  log.warn("security event", { event, id: request.id, route: request.routeOptions.url ?? "unknown" });
}
