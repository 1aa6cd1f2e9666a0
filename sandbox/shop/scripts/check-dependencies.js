/** What the lock file promises about every dependency: where it comes from, that it cannot change, its licence, its scripts. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

const LICENCES = new Set(["MIT", "ISC", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "BlueOak-1.0.0", "CC0-1.0", "Python-2.0", "MIT OR Apache-2.0", "(MIT OR CC0-1.0)", "(MIT AND Zlib)"]);

const { packages } = JSON.parse(readFileSync(join(import.meta.dirname, "../package-lock.json"), "utf8"));
const locked = Object.entries(packages).filter(([path, about]) => path.includes("node_modules/") && !about.link);
const problems = locked.flatMap(([path, about]) => {
  const found = [];
  if (!about.integrity) found.push("no integrity hash: it is not from a registry, or the lock file is incomplete");
  if (about.resolved) found.push("the lock file names a registry (set omit-lockfile-registry-resolved)");
  if (about.hasInstallScript) found.push("runs a script when it is installed");
  if (!about.dev && !LICENCES.has(about.license)) found.push(`licence ${about.license ?? "unknown"} is not on the list of accepted ones`);
  return found.map((problem) => `${path} ${about.version}: ${problem}`);
});

for (const problem of problems) console.error(problem);
console.log(`${locked.length} packages checked, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
