import assert from "node:assert/strict";
import { Agent, createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { until } from "../../src/commands/command.js";
import { Ground, skip, type Server } from "./ground.js";

const EVERYTHING = ["release", "pages", "account", "cart", "keys", "webhooks", "payments", "latency"];

describe("the shop on a real PostgreSQL and Redis", { skip }, () => {
  let ground: Ground;
  const check = (server: Server, names: string[], env: NodeJS.ProcessEnv = {}) => ground.run("v2", "check", names, { TARGET_URL: server.url, ...env });

  before(async () => {
    ground = new Ground();
    await ground.open();
    assert.equal((await ground.run("v2", "migrate")).code, 0);
  });
  after(() => ground.close());

  for (const release of ["v1", "v2"]) {
    test(`release ${release} passes every check at level 2 and says nothing secret`, async () => {
      const server = await ground.serve(release);
      const { code, output } = await check(server, EVERYTHING);
      assert.equal(code, 0, output);
      const { code: ended } = await server.stop();
      assert.equal(ended, 0);
      assert.doesNotMatch(server.log + output, /canary/);
    });
  }

  test("health tells what is broken, and answers 503", async () => {
    const server = await ground.serve("v2", { STRIPE_WEBHOOK_SECRET: "", EXTERNAL_URLS: "http://127.0.0.1:1/" });
    // It serves before it has reached Redis.
    const { answer, report } = await until("not everything else is well", 10, async () => {
      const answer = await fetch(`${server.url}/api/health`);
      const report = (await answer.json()) as { version: string; checks: { name: string; status: string }[] };
      assert.equal(report.checks.find(({ name }) => name === "cache")?.status, "ok");
      return { answer, report };
    });
    assert.equal(answer.status, 503);
    assert.equal(answer.headers.get("cache-control"), "no-cache, no-store, must-revalidate");
    assert.deepEqual(report.checks.filter(({ status }) => status === "error").map(({ name }) => name), ["payments", "external"]);
    assert.equal(report.version, "0123abc");
    await server.stop();
  });

  test("without its database it is alive, not ready, and its log keeps the password", async () => {
    const server = await ground.serve("v2", { DATABASE_URL: "postgres://shop:canary@127.0.0.1:1/shop" });
    assert.equal((await fetch(`${server.url}/api/live`)).status, 200);
    assert.equal((await fetch(`${server.url}/api/ready`)).status, 503);
    assert.equal((await fetch(`${server.url}/shop`)).status, 200, "the catalogue is still in the cache");
    await server.stop();
    assert.doesNotMatch(server.log, /canary/);
  });

  test("a database outside the release's range makes it not ready", async () => {
    const server = await ground.serve("v1", { SCHEMA_MAX: "1" });
    const answer = await fetch(`${server.url}/api/ready`);
    assert.equal(answer.status, 503);
    assert.match(await answer.text(), /schema level 2; release 1 serves on 1 to 1/);
    await server.stop();
  });

  test("administrators see orders, customers and strangers do not", async () => {
    const server = await ground.serve("v2");
    assert.equal((await ground.run("v2", "create-user", ["nobody"])).code, 1);
    const admin = await fetch(`${server.url}/admin/orders`, { redirect: "manual" });
    assert.equal(admin.status, 303);
    assert.equal((await fetch(`${server.url}/metrics`, { headers: { "x-forwarded-for": "192.0.2.1" } })).status, 404);
    await server.stop();
  });

  test("what looks like an attack is counted and told in the log, without a word of it", async () => {
    const server = await ground.serve("v2");
    await fetch(`${server.url}/shop?q=${encodeURIComponent("canary' OR 1=1--")}`);
    await fetch(`${server.url}/nowhere?q=union+select+canary`);
    const who = JSON.stringify({ email: "canary@example.com", password: "canary-canary" });
    assert.equal((await fetch(`${server.url}/api/auth/login`, { method: "POST", body: who, headers: { "content-type": "application/json" } })).status, 401);
    const forged = { method: "POST", body: '{"id":"canary"}', headers: { "stripe-signature": "t=1,v1=00" } };
    assert.equal((await fetch(`${server.url}/api/webhooks/stripe`, forged)).status, 400);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    await server.stop();
    const told = server.log.trim().split("\n").map((line) => JSON.parse(line) as { message: string; event?: string; route?: string });
    assert.deepEqual(
      told.filter(({ message }) => message === "security event").map(({ event, route }) => [event, route]),
      [["sql_injection", "/shop"], ["sql_injection", "unknown"], ["refused_login", "/api/auth/login"], ["refused_webhook", "/api/webhooks/stripe"]],
    );
    assert.match(metrics, /shop_suspicious_requests_total\{kind="sql_injection",[^}]*\} 2/);
    assert.match(metrics, /shop_logins_total\{result="refused",[^}]*\} 1/);
    assert.match(metrics, /shop_webhooks_total\{endpoint="payments",result="refused",[^}]*\} 1/);
    assert.doesNotMatch(server.log, /canary/);
  });

  test("each broken release is broken in its own way", async () => {
    const errors = await ground.serve("v4-errors");
    const status = async (path: string) => (await fetch(errors.url + path)).status;
    assert.deepEqual(await Promise.all(["/api/ready", "/shop", "/api/products"].map(status)), [200, 500, 500]);
    assert.match(await (await fetch(`${errors.url}/metrics`)).text(), /http_request_duration_seconds_count\{[^}]*route="\/shop",status="500"/);
    const empty = await ground.serve("v7-bad-smoke");
    const { code, output } = await check(empty, ["pages"]);
    assert.equal(code, 1);
    assert.match(output, /\/shop shows 0 products, the catalogue has 6/);
    await assert.rejects(ground.serve("v5-crash"), /ended with code 1.*ends at start on purpose.*cannot start/s);
    await Promise.all([errors.stop(), empty.stop()]);
  });

  test("with SENTRY_DSN an error is reported, and nothing else is sent", async () => {
    const received: string[] = [];
    const collector = createServer((request, reply) => {
      void text(request).then((body) => {
        received.push(body);
        reply.end("{}");
      });
    }).listen(0, "127.0.0.1");
    const { port } = await new Promise<AddressInfo>((resolve) => collector.once("listening", () => resolve(collector.address() as AddressInfo)));
    const server = await ground.serve("v4-errors", { SENTRY_DSN: `http://key@127.0.0.1:${port}/1` });
    await fetch(`${server.url}/shop`);
    await server.stop();
    collector.close();
    assert.ok(received.some((body) => body.includes("this release answers errors on purpose")), `${received.length} reports`);
    assert.doesNotMatch(received.join(), /canary/);
  });

  test("a rolling update under load loses no request", async () => {
    const leaving = await ground.serve("v1", { DRAIN_QUIET_MS: "1500" });
    const staying = await ground.serve("v2");
    let target = leaving;
    let running = true;
    const outcomes: (number | string)[] = [];
    const agent = new Agent({ keepAlive: true });
    const load = async () => {
      while (running) outcomes.push(await request(`${target.url}/shop`, agent));
    };
    const clients = Array.from({ length: 8 }, load);
    await pause(500);
    const stopped = leaving.stop();
    // A balancer hears of it a little later; until then it goes on sending to the one that leaves.
    await pause(400);
    target = staying;
    const { code, milliseconds } = await stopped;
    running = false;
    await Promise.all(clients);
    agent.destroy();
    assert.equal(code, 0);
    assert.ok(milliseconds < 5000, `left after ${milliseconds} ms`);
    assert.ok(outcomes.length > 100, `only ${outcomes.length} requests`);
    assert.deepEqual(outcomes.filter((outcome) => outcome !== 200), []);
    await staying.stop();
  });

  for (const [release, address, sign] of [
    ["v8-late-errors", "/shop", (answer: Response) => answer.status === 500],
    ["v9-late-slow", "/shop", (_answer: Response, milliseconds: number) => milliseconds > 3_000],
    ["v10-late-unhealthy", "/api/health", (answer: Response) => answer.status === 503],
  ] as const) {
    test(`release ${release} is well until customers come`, async () => {
      const server = await ground.serve(release);
      const { code, output } = await check(server, EVERYTHING);
      assert.equal(code, 0, output);
      for (let customer = 0; customer < 301; customer++) await fetch(`${server.url}/shop`);
      const start = performance.now();
      const answer = await fetch(server.url + address);
      assert.ok(sign(answer, performance.now() - start), `${answer.status}`);
      assert.equal((await fetch(`${server.url}/api/ready`)).status, 200);
      await server.stop();
    });
  }
});

function request(url: string, agent: Agent): Promise<number | string> {
  return new Promise((resolve) => {
    get(url, { agent }, (answer) => answer.resume().on("end", () => resolve(answer.statusCode ?? 0))).on("error", (error) => resolve(error.message));
  });
}
