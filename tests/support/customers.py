"""Logged-in customers and a payment provider's webhooks: steady traffic that detects a lost session."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Self

import httpx

from sandbox.traffic import ClientThreads, Pause, client_for

WEBHOOK = "/api/webhooks/stripe"


@dataclass
class Customers:
    """A few people with a session each, asking until the block ends; now and then a new one logs in.

    `failures` has everything that was not as it should be: an error, a session that was lost, a cart that was emptied.
    """

    url: str
    people: int = 3
    pause_seconds: float = 0.15
    limit_seconds: float = 900
    asked: int = 0
    failures: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    """Of those who logged in when it began."""
    _clients: list[httpx.Client] = field(default_factory=list)
    _threads: ClientThreads = field(init=False)

    def __enter__(self) -> Self:
        for _ in range(self.people):
            client = client_for(self.url)
            self.tokens.append(log_in(client))
            self._clients.append(client)
        self._threads = ClientThreads(self._run_person, range(self.people), self.limit_seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _run_person(self, number: int, pause: Pause) -> None:
        client, token = self._clients[number], self.tokens[number]
        count = 0
        client.put("/api/cart", json={"product": 1, "quantity": 1 + number}).raise_for_status()
        while pause(self.pause_seconds):
            try:
                self._visit(client, token, number, count)
            except httpx.HTTPError as error:
                self._record_failure(f"{type(error).__name__}: {error}")
            count += 1
        client.close()

    def _visit(self, client: httpx.Client, token: str, number: int, count: int) -> None:
        self._check_session(client, token, "the session from before")
        answer = client.get("/api/cart")
        if answer.status_code != 200 or answer.json()["items"] != {"1": 1 + number}:
            self._record_failure(f"the cart: {answer.status_code} {answer.text[:80]}")
        if count % 20 == 10:
            # Signed by one pod, asked for at another.
            fresh = client_for(self.url)
            new = log_in(fresh)
            for _ in range(4):
                self._check_session(fresh, new, "a new session")
            fresh.close()

    def _check_session(self, client: httpx.Client, token: str, who: str) -> None:
        self.asked += 1
        if not logged_in(client, token):
            self._record_failure(f"{who} is lost")

    def _record_failure(self, what: str) -> None:
        self.failures.append(f"{time.strftime('%H:%M:%S')} {what}")


def log_in(client: httpx.Client) -> str:
    """A new account's token."""
    who = {"email": f"{secrets.token_hex(8)}@example.com", "password": secrets.token_hex(8)}
    client.post("/api/auth/register", json=who).raise_for_status()
    return client.post("/api/auth/login", json=who).raise_for_status().json()["token"]


def logged_in(client: httpx.Client, token: str) -> bool:
    answer = client.get("/api/auth/status", headers={"Authorization": f"Bearer {token}"})
    return bool(answer.raise_for_status().json()["authenticated"])


def webhook(url: str, secret: str) -> int:
    """The status with which the shop answers an event signed by this secret."""
    event = json.dumps({"id": f"evt_{secrets.token_hex(6)}", "type": "runbook.test", "data": {"object": {}}})
    now = int(time.time())
    signed = hmac.new(secret.encode(), f"{now}.{event}".encode(), hashlib.sha256).hexdigest()
    with client_for(url) as client:
        headers = {"Stripe-Signature": f"t={now},v1={signed}", "Content-Type": "application/json"}
        return client.post(WEBHOOK, content=event, headers=headers).status_code
