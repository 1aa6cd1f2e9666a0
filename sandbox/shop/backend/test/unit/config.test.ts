import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, readConfig } from "../../src/config.js";
import { describe as say, redact } from "../../src/log.js";
import { readRelease } from "../../src/release.js";

const GOOD = { DATABASE_URL: "postgres://u:p@h/d", REDIS_URL: "redis://h", JWT_SECRET: "j", SESSION_SECRET: "s" };

test("a missing variable is named", () => {
  for (const name of Object.keys(GOOD)) {
    assert.throws(() => readConfig({ ...GOOD, [name]: "" }), (error: Error) => error instanceof ConfigError && error.message === `${name} is not set`);
  }
});

test("a bad value is refused without being repeated", () => {
  for (const [name, value] of [["PORT", "http"], ["PUBLIC_URL", "s3cret"], ["SMTP_URL", "s3cret"]] as const) {
    assert.throws(() => readConfig({ ...GOOD, [name]: value }), (error: Error) => error.message.startsWith(name) && !error.message.includes("s3cret"));
  }
});

test("a previous secret is accepted beside the current one, each by its own name", () => {
  const config = readConfig({
    ...GOOD, JWT_SECRET_ID: "0.4", JWT_SECRET_PREVIOUS: "old", JWT_SECRET_PREVIOUS_ID: "0.3",
    STRIPE_WEBHOOK_SECRET: "w", STRIPE_WEBHOOK_SECRET_PREVIOUS: "v", INTERNAL_API_KEY: "i",
  });
  assert.deepEqual(config.jwtKeys, [
    { secret: "JWT_SECRET", which: "current", value: "j", id: "0.4" },
    { secret: "JWT_SECRET", which: "previous", value: "old", id: "0.3" },
  ]);
  assert.deepEqual(config.webhookKeys.map(({ which, value }) => [which, value]), [["current", "w"], ["previous", "v"]]);
  assert.deepEqual(config.internalKeys.map(({ value }) => value), ["i"]);
  assert.deepEqual(readConfig(GOOD).webhookKeys, []);
});

test("the platform may set the schema range; a nonsense one is refused", () => {
  const release = readRelease({ RELEASE: "v1", SCHEMA_MAX: "1" });
  assert.deepEqual(release.schema, { min: 1, max: 1, level: 1 });
  assert.throws(() => readRelease({ RELEASE: "v1", SCHEMA_MIN: "one" }), /SCHEMA_MIN/);
  assert.throws(() => readRelease({ RELEASE: "v99" }), /RELEASE/);
});

test("credentials are cut out of error texts", () => {
  assert.equal(redact("connect postgres://shop:p%40ss@db:5432/shop refused"), "connect postgres://***@db:5432/shop refused");
  assert.equal(say(new AggregateError([new Error("a redis://:x@h"), Object.assign(new Error("b"), { code: "ECONNREFUSED" })])), "a redis://***@h; ECONNREFUSED: b");
});
