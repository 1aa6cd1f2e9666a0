import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Ground, skip } from "./ground.js";

describe("migrations on a real PostgreSQL", { skip }, () => {
  let ground: Ground;
  const level = async () => (await ground.run("v1", "level")).output;

  before(async () => {
    ground = new Ground();
    await ground.open();
  });
  after(() => ground.close());

  test("an empty database is at level 0", async () => assert.equal(await level(), "0\n"));

  test("two at once do the work once", async () => {
    const both = await Promise.all([ground.run("v1", "migrate"), ground.run("v1", "migrate")]);
    assert.deepEqual(both.map(({ code }) => code), [0, 0]);
    assert.deepEqual(both.map(({ output }) => output.includes("applied 001_shop")).sort(), [false, true]);
    assert.equal(await level(), "1\n");
  });

  test("a failing migration is named, undone, and those before it stay", async () => {
    const { code, output } = await ground.run("v6-bad-migration", "migrate");
    assert.equal(code, 1);
    assert.match(output, /003_product_code\.sql failed \(23505: .*\); the database stays at schema level 2/);
    assert.equal(await level(), "2\n");
  });

  test("a release below the database's level but within its range changes nothing", async () => {
    const { code, output } = await ground.run("v1", "migrate");
    assert.equal(code, 0, output);
    assert.match(output, /schema level 2 → 2/);
  });

  test("a release that does not know the database's level refuses", async () => {
    assert.equal((await ground.run("v3", "migrate")).code, 0);
    const { code, output } = await ground.run("v2", "migrate");
    assert.equal(code, 1);
    assert.match(output, /at schema level 3, but release 2 works up to level 2/);
    assert.match((await ground.run("v2", "wait", [], { WAIT_SECONDS: "0.3" })).output, /schema level 3, release 2 needs 2 to 2/);
  });

  test("an unreachable database is one clear line without its password", async () => {
    const { code, output } = await ground.run("v2", "migrate", [], { DATABASE_URL: "postgres://shop:canary@127.0.0.1:1/shop", WAIT_SECONDS: "0.3" });
    assert.equal(code, 1);
    assert.match(output, /^error: database not reachable after 0\.3 s: ECONNREFUSED.*\n$/);
    assert.doesNotMatch(output, /canary/);
  });
});
