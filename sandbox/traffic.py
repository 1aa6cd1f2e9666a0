"""Steady traffic against a shop on loopback, and what came of every single request: `python -m sandbox traffic`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

PATHS = ("/shop", "/api/products", "/api/auth/status", "/api/health")


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent, to which path, and its status or the error's name."""

    at: float
    path: str
    status: int | str
    version: str | None = None

    @property
    def failed(self) -> bool:
        return not (isinstance(self.status, int) and self.status < 400)


@dataclass
class Traffic:
    """A few clients asking the shop in turn until the block ends.

    Bounded in count and time, so that a forgotten one stops by itself.
    """

    url: str
    clients: int = 4
    pause_seconds: float = 0.03
    limit_seconds: float = 600
    fresh_connection_every: int = 20
    answers: list[Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self.limit_seconds
        self._threads = [
            threading.Thread(target=self._client, args=(number, deadline), daemon=True)
            for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _client(self, number: int, deadline: float) -> None:
        count = number
        client = client_for(self.url)
        while not self._stop.is_set() and time.monotonic() < deadline:
            path = PATHS[count % len(PATHS)]
            self.answers.append(ask(client, path))
            count += 1
            if count % self.fresh_connection_every == 0:
                client.close()
                client = client_for(self.url)
            self._stop.wait(self.pause_seconds)
        client.close()

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.failed]

    def versions(self) -> list[str]:
        """The versions that answered, in the order in which they first did."""
        seen = [a.version for a in sorted(self.answers, key=lambda a: a.at) if a.version is not None]
        return list(dict.fromkeys(seen))


def report(url: str, seconds: float) -> None:
    """Print each second how many requests failed, and which releases answered."""
    seen = 0
    with Traffic(url, limit_seconds=seconds) as traffic:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(1, left))
            fresh = traffic.answers[seen:]
            seen += len(fresh)
            print(f"{time.strftime('%H:%M:%S')} {summary(fresh)}", flush=True)


def summary(answers: Sequence[Answer]) -> str:
    """One line about these requests."""
    failed = Counter(answer.status for answer in answers if answer.failed)
    why = ", ".join(f"{status} x {count}" for status, count in failed.most_common(3))
    releases = ", ".join(sorted({answer.version for answer in answers if answer.version}))
    return (
        f"{len(answers):4} requests, {failed.total():4} failed{f' ({why})' if why else ''}, "
        f"answered by release {releases or '-'}"
    )


def client_for(url: str) -> httpx.Client:
    """A client that talks to 127.0.0.1, whatever name of the shop the URL carries (`*.localhost` included)."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://127.0.0.1:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    return httpx.Client(base_url=address, headers={"Host": parts.netloc}, verify=False, timeout=10)  # noqa: S501


def ask(client: httpx.Client, path: str) -> Answer:
    at = time.monotonic()
    try:
        answer = client.get(path)
    except httpx.HTTPError as error:
        return Answer(at, path, f"{type(error).__name__}: {error}")
    version = None
    if path == "/api/health":
        version = str(answer.json().get("version")) if answer.status_code in (200, 503) else None
    return Answer(at, path, answer.status_code, version)
