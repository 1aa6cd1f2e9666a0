/** A visitor with cookies, as a browser would be one. */

import { tmpdir } from "node:os";
import { join } from "node:path";

const REQUEST_MILLISECONDS = 10_000;

export class Client {
  readonly #cookies = new Map<string, string>();
  token: string | undefined;

  constructor(readonly target: string) {
    if (!URL.canParse(target)) throw new Error("TARGET_URL is not a URL (expected e.g. http://backend:3000)");
  }

  async send(method: string, path: string, body?: string | object, headers: Record<string, string> = {}): Promise<Response> {
    const answer = await fetch(new URL(path, this.target), {
      method,
      redirect: "manual",
      signal: AbortSignal.timeout(REQUEST_MILLISECONDS),
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...(this.#cookies.size > 0 ? { cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ") } : {}),
        ...(this.token ? { authorization: `Bearer ${this.token}` } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    }).catch((error: unknown) => {
      // fetch says only "fetch failed"; what happened is in its cause.
      throw error instanceof TypeError && error.cause instanceof Error ? error.cause : error;
    });
    for (const cookie of answer.headers.getSetCookie()) {
      const [pair = ""] = cookie.split(";");
      const [name = "", value = ""] = pair.split("=", 2);
      this.#cookies.set(name, value);
    }
    return answer;
  }

  /** The answer, which must have the status given. */
  async expect(status: number, method: string, path: string, body?: string | object, headers?: Record<string, string>): Promise<Response> {
    const answer = await this.send(method, path, body, headers);
    if (answer.status !== status) {
      throw new Error(`${method} ${path} answered ${answer.status}, expected ${status}: ${(await answer.text()).slice(0, 200)}`);
    }
    return answer;
  }

  /** The JSON of an answer that must be a success. */
  async json<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await this.send(method, path, body);
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${(await answer.text()).slice(0, 200)}`);
    return (answer.status === 204 ? {} : await answer.json()) as T;
  }
}

export function tokenFile(): string {
  return process.env["TOKEN_FILE"] || join(tmpdir(), "shop-token");
}
