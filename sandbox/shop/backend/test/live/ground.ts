/** A database of its own for each test file, and the shop's programs as the images start them. */

import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import pg from "pg";

const { TEST_DATABASE_URL, TEST_REDIS_URL } = process.env;

/** Reason to leave the tests of this folder out, or false. */
export const skip = TEST_DATABASE_URL && TEST_REDIS_URL ? false : "set TEST_DATABASE_URL and TEST_REDIS_URL to run this";

export interface Outcome {
  code: number | null;
  output: string;
}

export class Ground {
  readonly env: NodeJS.ProcessEnv;
  readonly #name = `shop_test_${randomBytes(6).toString("hex")}`;
  readonly #children: ChildProcess[] = [];

  constructor() {
    const url = new URL(TEST_DATABASE_URL!);
    url.pathname = `/${this.#name}`;
    this.env = {
      PATH: process.env["PATH"],
      DATABASE_URL: url.href,
      REDIS_URL: TEST_REDIS_URL,
      JWT_SECRET: "jwt-current-canary",
      SESSION_SECRET: "session-current-canary",
      INTERNAL_API_KEY: "internal-current-canary",
      STRIPE_SECRET_KEY: "sk_test_canary",
      STRIPE_WEBHOOK_SECRET: "whsec_current_canary",
      STRIPE_IDENTITY_WEBHOOK_SECRET: "whsec_identity_canary",
      RELEASE_GIT: "0123abc",
      DRAIN_QUIET_MS: "500",
    };
  }

  async open(): Promise<void> {
    await this.#admin(`CREATE DATABASE ${this.#name}`);
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await this.#admin(`DROP DATABASE ${this.#name} WITH (FORCE)`);
  }

  /** Run one of the shop's commands to its end. */
  async run(release: string, script: string, args: string[] = [], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
    const child = this.#start(release, `commands/${script}`, args, env);
    const [out, err] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, "close")]);
    return { code: child.exitCode, output: out + err };
  }

  /** Start the shop and wait until it says where it listens. */
  async serve(release: string, env: NodeJS.ProcessEnv = {}): Promise<Server> {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const child = this.#start(release, "main", [], { HOST: "127.0.0.1", PORT: String(port), ...env });
    const server = new Server(child, `http://127.0.0.1:${port}`);
    await server.listening();
    return server;
  }

  #start(release: string, script: string, args: string[], env: NodeJS.ProcessEnv): ChildProcess {
    const file = fileURLToPath(new URL(`../../src/${script}.js`, import.meta.url));
    const child = spawn(process.execPath, [file, ...args], { env: { ...this.env, RELEASE: release, ...env } });
    this.#children.push(child);
    return child;
  }

  async #admin(statement: string): Promise<void> {
    const client = new pg.Client({ connectionString: TEST_DATABASE_URL! });
    await client.connect();
    await client.query(statement);
    await client.end();
  }
}

export class Server {
  log = "";

  constructor(
    private readonly child: ChildProcess,
    readonly url: string,
  ) {}

  async listening(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.child.stdout!.on("data", (chunk: Buffer) => {
        this.log += chunk.toString();
        if (this.log.includes('"serving"')) resolve();
      });
      this.child.once("exit", (code) => reject(new Error(`the shop ended with code ${code}: ${this.log}`)));
    });
  }

  /** Ask it to leave; its exit code, and how long it took. */
  async stop(): Promise<{ code: number | null; milliseconds: number }> {
    const start = performance.now();
    this.child.kill("SIGTERM");
    const [code] = (await once(this.child, "exit")) as [number | null];
    return { code, milliseconds: performance.now() - start };
  }
}
