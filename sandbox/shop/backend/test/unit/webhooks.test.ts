import assert from "node:assert/strict";
import { test } from "node:test";
import Stripe from "stripe";
import { keys } from "../../src/config.js";
import { SignatureError, TOLERANCE_SECONDS, signatureHeader, verifiedEvent } from "../../src/webhooks.js";

const BODY = JSON.stringify({ id: "evt_1", type: "payment_intent.succeeded", data: { object: {} } });
const NEW = keys({ STRIPE_WEBHOOK_SECRET: "whsec_new" }, "STRIPE_WEBHOOK_SECRET");
const BOTH = keys({ STRIPE_WEBHOOK_SECRET: "whsec_new", STRIPE_WEBHOOK_SECRET_PREVIOUS: "whsec_old" }, "STRIPE_WEBHOOK_SECRET");
const stripe = new Stripe("sk_test_unused");

test("what Stripe's own library signs is accepted", () => {
  const header = stripe.webhooks.generateTestHeaderString({ payload: BODY, secret: "whsec_new" });
  assert.equal(verifiedEvent(Buffer.from(BODY), header, NEW).event.id, "evt_1");
});

test("what we sign is accepted by Stripe's own library", () => {
  assert.equal(stripe.webhooks.constructEvent(BODY, signatureHeader(BODY, "whsec_new"), "whsec_new").id, "evt_1");
});

test("during a rotation both secrets are accepted and told apart, and no third", () => {
  for (const { value, which } of BOTH) {
    assert.equal(verifiedEvent(Buffer.from(BODY), signatureHeader(BODY, value), BOTH).key.which, which);
  }
  refused(signatureHeader(BODY, "whsec_other"), /wrong signature/, BOTH);
});

test("one good signature among several is enough, as Stripe sends them while it rolls a secret", () => {
  const header = `${signatureHeader(BODY, "whsec_other")},${signatureHeader(BODY, "whsec_new").split(",")[1]}`;
  verifiedEvent(Buffer.from(BODY), header, NEW);
});

test("forged, changed, unsigned and malformed requests are refused", () => {
  const header = signatureHeader(BODY, "whsec_new");
  assert.throws(() => verifiedEvent(Buffer.from(BODY.replace("evt_1", "evt_2")), header, NEW), SignatureError);
  for (const bad of [undefined, "", "t=1", "v1=00", "t=x,v1=00", header.replace("v1=", "v0=")]) refused(bad, /no signature/);
  refused(header.slice(0, -2), /wrong signature/);
});

test("the date is accepted up to the tolerance on both sides, not beyond", () => {
  const now = 1_700_000_000;
  for (const offset of [-TOLERANCE_SECONDS, TOLERANCE_SECONDS]) {
    verifiedEvent(Buffer.from(BODY), signatureHeader(BODY, "whsec_new", now + offset), NEW, now * 1000);
  }
  for (const offset of [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1]) {
    const header = signatureHeader(BODY, "whsec_new", now + offset);
    assert.throws(() => verifiedEvent(Buffer.from(BODY), header, NEW, now * 1000), /too long ago/);
  }
});

function refused(header: string | undefined, message: RegExp, accepted = NEW): void {
  assert.throws(() => verifiedEvent(Buffer.from(BODY), header, accepted), (error: Error) => error instanceof SignatureError && message.test(error.message));
}
