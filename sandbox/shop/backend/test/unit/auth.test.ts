import assert from "node:assert/strict";
import { test } from "node:test";
import { SignJWT } from "jose";
import { verifiedSession } from "../../src/auth.js";
import { keys } from "../../src/config.js";

const KEYS = keys({ JWT_SECRET: "four", JWT_SECRET_ID: "0.4", JWT_SECRET_PREVIOUS: "three", JWT_SECRET_PREVIOUS_ID: "0.3" }, "JWT_SECRET");
const NAMELESS = KEYS.map((key) => ({ ...key, id: undefined }));

function token(secret: string, kid?: string, expires = "1h"): Promise<string> {
  const header = { alg: "HS256", ...(kid ? { kid } : {}) };
  return new SignJWT({ sid: "session" }).setProtectedHeader(header).setIssuedAt().setExpirationTime(expires).sign(new TextEncoder().encode(secret));
}

const which = async (text: string, accepted = KEYS) => (await verifiedSession(text, accepted))?.key.which ?? null;

test("the key that a token names verifies it", async () => {
  assert.equal(await which(await token("four", "0.4")), "current");
  assert.equal(await which(await token("three", "0.3")), "previous");
});

test("a token that names no key, or one that nobody knows, is tried with both", async () => {
  for (const kid of [undefined, "1.9"]) {
    assert.equal(await which(await token("four", kid)), "current");
    assert.equal(await which(await token("three", kid)), "previous");
    assert.equal(await which(await token("two", kid)), null);
  }
});

test("keys without names verify tokens with and without", async () => {
  assert.equal(await which(await token("three", "0.3"), NAMELESS), "previous");
  assert.equal(await which(await token("four"), NAMELESS), "current");
});

test("a token that names one key is not verified by the other", async () => {
  assert.equal(await which(await token("three", "0.4")), null);
});

test("expired, malformed and unsigned tokens belong to nobody", async () => {
  const unsigned = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from('{"sid":"session"}').toString("base64url")}.`;
  for (const bad of [await token("four", "0.4", "-1s"), await token("three", undefined, "-1s"), "", "a.b.c", unsigned]) {
    assert.equal(await which(bad), null);
  }
});
