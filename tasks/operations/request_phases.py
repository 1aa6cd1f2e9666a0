"""How long each phase of an HTTP request takes: name, connection, TLS, first byte, transfer.

Standard library only: `runbook debug performance` measures with it from outside, and its Job from inside.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

PHASES = ("name", "connect", "tls", "firstByte", "transfer")
"""In order. `firstByte` begins when the request is sent: the server's own time, and one round trip."""
_CHUNK = 65_536
_MOST_BYTES = 64 * 1024 * 1024


class NotAnswered(Exception):
    """No answer; `phase` is the one that failed."""

    def __init__(self, phase: str, why: str) -> None:
        super().__init__(f"{phase}: {why}")
        self.phase, self.why = phase, why


@dataclass(frozen=True)
class Answer:
    """One request. `milliseconds` is by phase; `tls` is missing for http."""

    status: int
    milliseconds: Mapping[str, float]
    bytes: int
    address: str
    location: str | None
    """Where a redirect leads."""

    @property
    def total(self) -> float:
        return sum(self.milliseconds.values())


def request(url: str, headers: Mapping[str, str], seconds: float) -> Answer:
    """GET without keep-alive, redirects or a proxy, so that every phase happens."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    took: dict[str, float] = {}
    clock = _Clock(took)
    try:
        # Names under `.localhost` are this machine (RFC 6761), which not every resolver implements.
        name = "127.0.0.1" if host.endswith(".localhost") else host
        found = clock.time("name", lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        connection = clock.time("connect", lambda: _connect(found, seconds))
        with connection:
            wrapped = connection
            if secure:
                context = _authorities()
                wrapped = clock.time("tls", lambda: context.wrap_socket(connection, server_hostname=host))
            with wrapped:
                client = http.client.HTTPConnection(host, port, timeout=seconds)
                client.sock = wrapped
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                given = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close", **headers}

                def ask() -> http.client.HTTPResponse:
                    client.request("GET", path, headers=given)
                    return client.getresponse()

                answer = clock.time("firstByte", ask)
                size = clock.time("transfer", lambda: _read(answer))
                address = wrapped.getpeername()[0] if wrapped.fileno() >= 0 else found[0][4][0]
                return Answer(answer.status, took, size, str(address), answer.getheader("Location"))
    except (OSError, http.client.HTTPException) as error:
        raise NotAnswered(clock.phase, str(error) or type(error).__name__) from None


def measure(url: str, headers: Mapping[str, str], times: int, seconds: float) -> dict[str, Any]:
    """Several requests one after another: the median and the slowest of each phase, in milliseconds.

    `error` (with the `phase`) instead, when one is not answered within `seconds`.
    """
    answers: list[Answer] = []
    for _ in range(times):
        try:
            answers.append(request(url, headers, seconds))
        except NotAnswered as failed:
            return {"url": url, "answered": len(answers), "phase": failed.phase, "error": failed.why}
    last = answers[-1]
    phases = [phase for phase in PHASES if phase in last.milliseconds]
    return {
        "url": url,
        "address": last.address,
        "requests": times,
        "statuses": sorted({answer.status for answer in answers}),
        "location": last.location,
        "bytes": last.bytes,
        "median": {phase: _round([each.milliseconds[phase] for each in answers]) for phase in phases}
        | {"total": _round([each.total for each in answers])},
        "slowest": {phase: round(max(each.milliseconds[phase] for each in answers), 1) for phase in phases}
        | {"total": round(max(each.total for each in answers), 1)},
    }


class _Clock:
    def __init__(self, took: dict[str, float]) -> None:
        self._took, self.phase = took, ""

    def time(self, phase: str, work: Any) -> Any:
        self.phase = phase
        began = time.perf_counter()
        result = work()
        self._took[phase] = (time.perf_counter() - began) * 1000
        return result


def _connect(addresses: Sequence[Any], seconds: float) -> socket.socket:
    """To the first address that accepts."""
    failed: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in addresses:
        made = socket.socket(family, kind, protocol)
        made.settimeout(seconds)
        try:
            made.connect(address)
        except OSError as error:
            made.close()
            failed = error
        else:
            return made
    raise failed


def _read(answer: http.client.HTTPResponse) -> int:
    size = 0
    while size < _MOST_BYTES and (chunk := answer.read(_CHUNK)):
        size += len(chunk)
    return size


def _authorities() -> ssl.SSLContext:
    """Trusts the system's authorities and the one in RUNBOOK_CA_FILE."""
    context = ssl.create_default_context()
    if extra := os.environ.get("RUNBOOK_CA_FILE"):
        context.load_verify_locations(extra)
    return context


def _round(values: Sequence[float]) -> float:
    return round(median(values), 1)
