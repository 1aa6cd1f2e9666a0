/** What a release is broken by on purpose, as customers meet it. */

import { setTimeout as pause } from "node:timers/promises";
import type { Fault } from "./release.js";

/** More requests than a deploy's own checks make: such a release looks well until customers come. */
const REQUESTS_UNTIL_WORN = 300;
const SLOW_MILLISECONDS = 4_000;

export class Faults {
  #requests = 0;

  constructor(readonly fault: Fault | null) {}

  /** Before a customer is answered. */
  async meet(): Promise<void> {
    this.#requests += 1;
    if (this.fault === "errors" || this.#has("late-errors")) throw new Error("this release answers errors on purpose");
    if (this.#has("late-slow")) await pause(SLOW_MILLISECONDS);
  }

  /** What the health check tells besides. */
  check(): void {
    if (this.#has("late-unhealthy")) throw new Error("this release becomes unhealthy on purpose");
  }

  #has(fault: Fault): boolean {
    return this.fault === fault && this.#requests > REQUESTS_UNTIL_WORN;
  }
}
