import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { columns } from "../../src/catalogue.js";
import { readRelease } from "../../src/release.js";

const names = readdirSync(new URL("../../../../releases", import.meta.url)).map((file) => file.replace(".json", ""));

for (const name of names) {
  test(`release ${name}: its migrations are there, in order, and lead to its level`, () => {
    const release = readRelease({ RELEASE: name });
    const levels = release.migrations.map((file) => parseInt(file, 10));
    assert.deepEqual(levels, Array.from({ length: release.schema.level }, (_, index) => index + 1));
    assert.ok(release.schema.min <= release.schema.level && release.schema.level <= release.schema.max);
    for (const file of release.migrations) assert.match(readFileSync(join(release.folder, file), "utf8"), /^-- Up Migration\n/);
  });
}

test("columns follow the release's own level", () => {
  assert.equal(columns(readRelease({ RELEASE: "v1" })).origin, "NULL");
  assert.equal(columns(readRelease({ RELEASE: "v2" })).origin, "origin");
  assert.equal(columns(readRelease({ RELEASE: "v3" })).price, "unit_amount");
});
