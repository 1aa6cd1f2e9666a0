/** What Stripe tells us. Signatures cover the body's exact bytes, so these routes get it unparsed. */

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { answer } from "../app.js";
import type { Key } from "../config.js";
import { log } from "../log.js";
import { applyEvent } from "../orders.js";
import { tell } from "../security.js";
import type { Services } from "../services.js";
import { SignatureError, verifiedEvent, type StripeEvent } from "../webhooks.js";

export function webhookRoutes(scope: FastifyInstance, { config, database, metrics }: Services): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  const receive = (endpoint: "payments" | "identity", keys: Key[]) => async (request: FastifyRequest, reply: FastifyReply) => {
    if (keys.length === 0) return answer(request, reply, 501, `the ${endpoint} webhook is not configured`);
    let event: StripeEvent;
    try {
      const verified = verifiedEvent(request.body as Buffer, request.headers["stripe-signature"] as string | undefined, keys);
      metrics.secretUses.inc({ secret: verified.key.secret, which: verified.key.which });
      event = verified.event;
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      metrics.webhooks.inc({ endpoint, result: "refused" });
      tell("refused_webhook", request);
      return answer(request, reply, 400, error.message);
    }
    metrics.webhooks.inc({ endpoint, result: "accepted" });
    const outcome = await applyEvent(database, event);
    if (outcome === "paid" || outcome === "failed") metrics.payments.inc({ result: outcome === "paid" ? "succeeded" : "failed" });
    log.info("webhook", { endpoint, event: event.id, type: event.type, outcome });
    return reply.send({ received: true, outcome });
  };

  scope.post("/api/webhooks/stripe", receive("payments", config.webhookKeys));
  scope.post("/api/webhooks/stripe-identity", receive("identity", config.identityWebhookKeys));
}
