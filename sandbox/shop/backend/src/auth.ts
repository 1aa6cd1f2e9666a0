/** Who somebody is: scrypt password hashes, sessions in Redis, and signed tokens that point at them. */

import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";
import { SignJWT, decodeProtectedHeader, errors, jwtVerify } from "jose";
import type pg from "pg";
import type { Cache } from "./cache.js";
import type { Key } from "./config.js";
import type { Metrics } from "./metrics.js";

export const SESSION_SECONDS = 12 * 3600;

const derive = promisify<string, Buffer, number, Buffer>(scrypt);

export interface User {
  id: number;
  email: string;
  role: "customer" | "admin";
}

export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16);
  return `scrypt$${salt.toString("base64url")}$${(await derive(password, salt, 32)).toString("base64url")}`;
}

export async function passwordMatches(password: string, hash: string): Promise<boolean> {
  const [scheme, salt, key] = hash.split("$");
  if (scheme !== "scrypt" || !salt || !key) return false;
  return timingSafeEqual(await derive(password, Buffer.from(salt, "base64url"), 32), Buffer.from(key, "base64url"));
}

export async function createUser(database: pg.Pool, email: string, password: string, role: User["role"] = "customer"): Promise<User | null> {
  const made = await database.query<User>(
    "INSERT INTO users (email, password_hash, role) VALUES (lower($1), $2, $3) ON CONFLICT (email) DO NOTHING RETURNING id, email, role",
    [email, await hashPassword(password), role],
  );
  return made.rows[0] ?? null;
}

export class Auth {
  constructor(
    private readonly database: pg.Pool,
    private readonly cache: Cache,
    private readonly keys: Key[],
    private readonly metrics: Metrics,
  ) {}

  /** A token for a new session, or null if e-mail and password do not belong together. */
  async logIn(email: string, password: string): Promise<string | null> {
    const found = await this.database.query<User & { password_hash: string }>(
      "SELECT id, email, role, password_hash FROM users WHERE email = lower($1)",
      [email],
    );
    const user = found.rows[0];
    // An unknown address costs as much time as a wrong password: the answer's delay tells nothing.
    const matches = await passwordMatches(password, user?.password_hash ?? (await unknownUserHash()));
    if (!user || !matches) return null;
    const session = randomBytes(24).toString("base64url");
    await this.cache.set(sessionKey(session), JSON.stringify({ id: user.id, email: user.email, role: user.role }), {
      expiration: { type: "EX", value: SESSION_SECONDS },
    });
    return this.sign(session);
  }

  /** Signed with the current key only. */
  async sign(session: string): Promise<string> {
    return signToken(session, this.keys[0]!);
  }

  /** Whose session the token points at; null for a missing, forged, expired or revoked one. */
  async user(token: string | undefined): Promise<User | null> {
    const signed = token ? await verifiedSession(token, this.keys) : null;
    if (!signed) return null;
    const { secret, which } = signed.key;
    this.metrics.secretUses.inc({ secret, which });
    const stored = await this.cache.get(sessionKey(signed.session));
    return stored ? (JSON.parse(stored) as User) : null;
  }

  async logOut(token: string): Promise<void> {
    const signed = await verifiedSession(token, this.keys);
    if (signed) await this.cache.del(sessionKey(signed.session));
  }

  /** A token just signed is accepted; for health. */
  async works(): Promise<boolean> {
    const session = randomBytes(8).toString("hex");
    return (await verifiedSession(await this.sign(session), this.keys))?.session === session;
  }
}

/** A token that points at a session and names the key that signed it. */
export function signToken(session: string, key: Key): Promise<string> {
  const header = { alg: "HS256", ...(key.id ? { kid: key.id } : {}) };
  return new SignJWT({ sid: session }).setProtectedHeader(header).setIssuedAt().setExpirationTime(`${SESSION_SECONDS}s`).sign(bytes(key));
}

/** Session identifier inside a token that one of the keys signed, and which key that is. */
export async function verifiedSession(token: string, keys: Key[]): Promise<{ session: string; key: Key } | null> {
  const id = keyIdOf(token);
  const named = keys.filter((key) => key.id !== undefined && key.id === id);
  // Without a name, or with one that nobody here knows, it may still be ours: signed before keys had names.
  for (const key of named.length > 0 ? named : keys) {
    try {
      const { payload } = await jwtVerify(token, bytes(key), { algorithms: ["HS256"] });
      return typeof payload["sid"] === "string" ? { session: payload["sid"], key } : null;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) return null;
    }
  }
  return null;
}

function keyIdOf(token: string): string | undefined {
  try {
    return decodeProtectedHeader(token).kid;
  } catch {
    return undefined;
  }
}

function bytes(key: Key): Uint8Array {
  return new TextEncoder().encode(key.value);
}

let unknown: Promise<string> | undefined;

function unknownUserHash(): Promise<string> {
  return (unknown ??= hashPassword(randomBytes(16).toString("hex")));
}

function sessionKey(session: string): string {
  return `session:${session}`;
}
