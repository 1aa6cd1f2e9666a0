/** A rotation as the platform does it: one server for each of its phases, all at once, on one PostgreSQL and Redis. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Client } from "../../src/checks/client.js";
import { signatureHeader } from "../../src/webhooks.js";
import { Ground, skip, type Server } from "./ground.js";

type Environment = Record<string, string>;

const SECRETS = ["JWT_SECRET", "SESSION_SECRET", "INTERNAL_API_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET"];
const EVENT = JSON.stringify({ id: "evt_1", type: "runbook.test", data: { object: {} } });

function values(id: string, suffix = ""): Environment {
  return { ...Object.fromEntries(SECRETS.map((name) => [name + suffix, `${name}-${id}-canary`])), [`JWT_SECRET${suffix}_ID`]: id };
}

/** In order: what pods are told in each phase, from period 3 to period 4; then what an emergency tells them. */
const PHASES: Environment[] = [
  values("0.3"),
  { ...values("0.3"), ...values("0.4", "_PREVIOUS") },
  { ...values("0.4"), ...values("0.3", "_PREVIOUS") },
  values("0.4"),
];
const EMERGENCY = values("1.5");

/** Somebody with an account and a cart, who came while `server` was all there was. */
async function comeTo(server: Server): Promise<Client> {
  const client = new Client(server.url);
  const credentials = { email: `rotation-${crypto.randomUUID()}@example.invalid`, password: "long enough" };
  await client.expect(201, "POST", "/api/auth/register", credentials);
  await client.expect(200, "POST", "/api/auth/login", credentials);
  await client.expect(200, "PUT", "/api/cart", { product: 1, quantity: 3 });
  return client;
}

async function knownTo(server: Server, client: Client): Promise<{ user: boolean; cart: boolean }> {
  const { authenticated } = await client.json<{ authenticated: boolean }>("GET", `${server.url}/api/auth/status`);
  const { items } = await client.json<{ items: Record<string, number> }>("GET", `${server.url}/api/cart`);
  return { user: authenticated, cart: items[1] === 3 };
}

async function uses(server: Server, which: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const lines = text.matchAll(/^shop_secret_uses_total\{secret="(\w+)",which="(\w+)".*\} (\d+)$/gm);
  return Object.fromEntries([...lines].filter((line) => line[2] === which).map((line) => [line[1]!, Number(line[3])]));
}

describe("rotation", { skip }, () => {
  let ground: Ground;
  let servers: Server[];
  let emergency: Server;
  const check = (server: Server, env: Environment) => ground.run("v2", "check", ["keys", "webhooks"], { TARGET_URL: server.url, ...env });

  before(async () => {
    ground = new Ground();
    await ground.open();
    assert.equal((await ground.run("v2", "migrate")).code, 0);
    [emergency, ...servers] = (await Promise.all([EMERGENCY, ...PHASES].map((env) => ground.serve("v2", env)))) as [Server, ...Server[]];
  });
  after(() => ground.close());

  test("whoever comes in one phase is known in the phases beside it, which pods run side by side", async () => {
    for (const [phase, server] of servers.entries()) {
      const neighbours = [servers[phase - 1], server, servers[phase + 1]].filter((each) => each !== undefined);
      for (const neighbour of neighbours) {
        assert.deepEqual(await knownTo(neighbour, await comeTo(server)), { user: true, cart: true }, `from phase ${phase}`);
      }
    }
  });

  test("a cookie that is used meanwhile outlives the old secret, a token ends with it", async () => {
    const client = await comeTo(servers[0]!);
    for (const server of servers.slice(1, 3)) assert.deepEqual(await knownTo(server, client), { user: true, cart: true });
    assert.deepEqual(await knownTo(servers[3]!, client), { user: false, cart: true });
    assert.deepEqual(await knownTo(servers[3]!, await comeTo(servers[0]!)), { user: false, cart: false });
  });

  test("in each phase the running shop and the secrets given to its checks agree", async () => {
    for (const [phase, server] of servers.entries()) {
      const { code, output } = await check(server, PHASES[phase]!);
      assert.equal(code, 0, `phase ${phase}: ${output}`);
      assert.match(output, new RegExp(`stripe-identity takes ${phase === 1 || phase === 2 ? 2 : 1} secret`));
    }
    const { code, output } = await check(servers[3]!, PHASES[2]!);
    assert.equal(code, 1, "the check has to see that the old secrets are not accepted any more");
    assert.match(output, /FAIL {2}keys: internal key not accepted.*\nFAIL {2}webhooks: not accepted/);
  });

  test("uses of the previous value are counted, each under its secret", async () => {
    const rotated = await ground.serve("v2", PHASES[2]);
    assert.equal(Math.max(...Object.values(await uses(rotated, "previous"))), 0);
    await knownTo(rotated, await comeTo(servers[0]!));
    const client = new Client(rotated.url);
    await client.expect(200, "GET", "/api/internal/orders", undefined, { "x-internal-key": PHASES[0]!["INTERNAL_API_KEY"]! });
    for (const [path, name] of [["stripe", "STRIPE_WEBHOOK_SECRET"], ["stripe-identity", "STRIPE_IDENTITY_WEBHOOK_SECRET"]] as const) {
      await client.expect(200, "POST", `/api/webhooks/${path}`, EVENT, { "stripe-signature": signatureHeader(EVENT, PHASES[0]![name]!) });
    }
    assert.deepEqual(await uses(rotated, "previous"), Object.fromEntries(SECRETS.map((name) => [name, 1])));
    assert.deepEqual(await uses(rotated, "current"), Object.fromEntries(SECRETS.map((name) => [name, 0])));
    await rotated.stop();
    assert.doesNotMatch(rotated.log, /canary/);
  });

  test("after an emergency nothing from before is accepted, and the shop agrees with its checks", async () => {
    const old = { ...PHASES[2]!, JWT_SECRET: EMERGENCY["JWT_SECRET"]! };
    for (const server of servers) assert.deepEqual(await knownTo(emergency, await comeTo(server)), { user: false, cart: false });
    assert.equal((await check(emergency, EMERGENCY)).code, 0);
    assert.equal((await check(emergency, old)).code, 1);
    const client = new Client(emergency.url);
    for (const { INTERNAL_API_KEY: key } of PHASES) {
      await client.expect(401, "GET", "/api/internal/orders", undefined, { "x-internal-key": key! });
    }
    await client.expect(401, "GET", "/api/internal/orders");
  });

  test("without its key, what is internal is closed and says why", async () => {
    const server = await ground.serve("v2", { INTERNAL_API_KEY: "" });
    const answer = await fetch(`${server.url}/api/internal/orders`, { headers: { "x-internal-key": "" } });
    assert.equal(answer.status, 501);
    assert.match(await answer.text(), /INTERNAL_API_KEY is not configured/);
    assert.equal((await ground.run("v2", "check", ["keys"], { TARGET_URL: server.url, INTERNAL_API_KEY: "" })).code, 0);
    await server.stop();
  });
});
