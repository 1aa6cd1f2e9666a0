/**
 * Leaving without dropping a request.
 *
 * After SIGTERM the load balancers still send requests until they have heard of it. So the process keeps
 * serving, asks every client to close its connection, and leaves when no request has come for a
 * while: that is when the last balancer has heard. Probes do not count as requests.
 */

import type { FastifyInstance } from "fastify";
import { log } from "./log.js";

/** Longer than what balancers in front keep an idle connection (90 s for Traefik and nginx's 60 s): the client closes first, never the server. */
export const KEEP_ALIVE_MILLISECONDS = 95_000;

const QUIET_MILLISECONDS = 1_500;
const LONGEST_MILLISECONDS = 20_000;

export class Drain {
  draining = false;
  #server: FastifyInstance | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #done: (() => void) | undefined;

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
      this.#quiet = setTimeout(resolve, QUIET_MILLISECONDS);
      setTimeout(() => this.#done?.(), LONGEST_MILLISECONDS).unref();
    });
    await this.#server?.close();
    log.info("drained", { milliseconds: Math.round(performance.now() - start) });
  }
}

function isProbe(url: string): boolean {
  return url === "/api/ready" || url === "/api/live" || url === "/metrics";
}
