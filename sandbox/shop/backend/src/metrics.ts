/** What Prometheus reads: enough for error rate, latency quantiles and the business alerts. */

import { Counter, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import { ROTATING } from "./config.js";
import type { Release } from "./release.js";
import { SOURCES } from "./security.js";

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics(release: Release, git: string) {
  const registry = new Registry();
  registry.setDefaultLabels({ release: release.version, git });
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const metrics = {
    registry,
    requests: new Histogram({
      name: "http_request_duration_seconds",
      help: "Time from request to last byte of the answer",
      labelNames: ["method", "route", "status"] as const,
      // 1.5, 2 and 3 s are limits that the runbook names: a quantile beside a limit needs a bucket edge on it.
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10],
      registers,
    }),
    orders: new Counter({ name: "shop_orders_total", help: "Orders placed", registers }),
    payments: new Counter({ name: "shop_payments_total", help: "Payment events", labelNames: ["result"] as const, registers }),
    logins: new Counter({ name: "shop_logins_total", help: "Log-in attempts", labelNames: ["result"] as const, registers }),
    webhooks: new Counter({
      name: "shop_webhooks_total",
      help: "Webhooks received",
      labelNames: ["endpoint", "result"] as const,
      registers,
    }),
    secretUses: new Counter({
      name: "shop_secret_uses_total",
      help: "Tokens, cookies, calls and webhooks accepted, by the secret that proved them genuine and by which of its values",
      labelNames: ["secret", "which"] as const,
      registers,
    }),
    suspicious: new Counter({
      name: "shop_suspicious_requests_total",
      help: "Requests that look like an attack",
      labelNames: ["kind", "source"] as const,
      registers,
    }),
  };
  // Series exist from the first scrape on: a rate over a counter that appears with its first failure misses that failure.
  for (const result of ["succeeded", "failed"]) metrics.payments.inc({ result }, 0);
  for (const result of ["accepted", "refused"]) {
    metrics.logins.inc({ result }, 0);
    for (const endpoint of ["payments", "identity"]) metrics.webhooks.inc({ endpoint, result }, 0);
  }
  for (const secret of ROTATING) for (const which of ["current", "previous"]) metrics.secretUses.inc({ secret, which }, 0);
  for (const source of SOURCES) metrics.suspicious.inc({ kind: "sql_injection", source }, 0);
  return metrics;
}
