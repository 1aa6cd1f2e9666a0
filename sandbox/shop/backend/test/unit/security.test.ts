import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import winston from "winston";
import { log } from "../../src/log.js";
import { tell } from "../../src/security.js";

test("a security event is one line of JSON that names it, and nothing that its sender chose", () => {
  const lines: string[] = [];
  const stream = new Writable({
    write: (chunk, _encoding, done) => {
      lines.push(String(chunk));
      done();
    },
  });
  const transport = new winston.transports.Stream({ stream });
  log.add(transport);
  const request = { id: "1", url: "/shop?q=canary", body: "canary", headers: { cookie: "canary" }, routeOptions: { url: "/shop" } };
  tell("sql_injection", request);
  tell("refused_login", { ...request, routeOptions: {} });
  log.remove(transport);
  const told = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.deepEqual(
    told.map(({ level, event, route }) => [level, event, route]),
    [["warn", "sql_injection", "/shop"], ["warn", "refused_login", "unknown"]],
  );
  assert.doesNotMatch(lines.join(), /canary/);
});
