/**
 * Leaving without dropping a request.
 *
 * After SIGTERM the load balancers still send requests until they have heard of it. So the process keeps
 * serving, asks every client to close its connection, and leaves when no request has come for a
 * while: that is when the last balancer has heard. Probes do not count as requests.
 */

import type { FastifyInstance } from "fastify";
import { log } from "./log.js";

/** Longer than balancers keep an idle connection (Traefik 90 s, nginx 60 s): they close first, never the server. */
export const KEEP_ALIVE_MILLISECONDS = 95_000;

/** Longer than a balancer needs to hear that a pod leaves (kube-proxy 1 s, Traefik 2 s), also when traffic is thin. */
const QUIET_MILLISECONDS = 4_000;

/** With the answers still under way, well below the 30 s after which Kubernetes kills. */
const LONGEST_MILLISECONDS = 15_000;

export class Drain {
  draining = false;
  #server: FastifyInstance | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #done: (() => void) | undefined;

  constructor(private readonly quietMilliseconds = QUIET_MILLISECONDS) {}

  watch(server: FastifyInstance): void {
    this.#server = server;
    server.addHook("onRequest", (request, reply, next) => {
      if (this.draining) {
        reply.header("connection", "close");
        if (!isProbe(request.url)) this.#quiet?.refresh();
      }
      next();
    });
  }

  /** Resolves when every request is answered and the server is closed. */
  async leave(reason: string): Promise<void> {
    if (this.draining) return;
    this.draining = true;
    const start = performance.now();
    log.info("draining", { reason });
    await new Promise<void>((resolve) => {
      this.#done = resolve;
      this.#quiet = setTimeout(resolve, this.quietMilliseconds);
      setTimeout(() => this.#done?.(), LONGEST_MILLISECONDS).unref();
    });
    await this.#server?.close();
    log.info("drained", { milliseconds: Math.round(performance.now() - start) });
  }
}

function isProbe(url: string): boolean {
  return url === "/api/ready" || url === "/api/live" || url === "/metrics";
}
