"""Steady traffic to a shop on loopback, and the result of every request: `python -m sandbox traffic`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import httpx

Pause = Callable[[float], bool]
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


class ClientThreads:
    """Runs `client(number, pause)` in one thread per number. `pause` waits and says whether to go on: it returns False
    after `stop` and after `limit_seconds`, so that traffic that is never stopped ends too."""

    def __init__(self, client: Callable[[int, Pause], None], numbers: Iterable[int], limit_seconds: float) -> None:
        self._stop = threading.Event()
        self._deadline = time.monotonic() + limit_seconds
        self._threads = [threading.Thread(target=client, args=(number, self._pause), daemon=True) for number in numbers]
        for thread in self._threads:
            thread.start()

    def _pause(self, seconds: float) -> bool:
        return not self._stop.wait(seconds) and time.monotonic() < self._deadline

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)


@dataclass
class Traffic:
    """Requests of a few clients until the block ends, or `limit_seconds` are over."""

    url: str
    clients: int = 4
    pause_seconds: float = 0.1
    limit_seconds: float = 600
    fresh_connection_every: int = 20
    answers: list[Answer] = field(default_factory=list)
    _threads: ClientThreads = field(init=False)

    def __enter__(self) -> Self:
        self._threads = ClientThreads(self._client, range(self.clients), self.limit_seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.stop()

    def _client(self, number: int, pause: Pause) -> None:
        count = number
        client = client_for(self.url)
        while pause(self.pause_seconds):
            path = PATHS[count % len(PATHS)]
            self.answers.append(ask(client, path))
            count += 1
            if count % self.fresh_connection_every == 0:
                client.close()
                client = client_for(self.url)
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
