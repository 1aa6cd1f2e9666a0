"""Redis: the application's login, a key that is written and read, and no access without a password."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.connection_url import joined, parse_redis
from tasks.go_live.line import Line
from tasks.reach import SECONDS, NotThere

_KEEP_SECONDS = 60


def check_redis(line: Line, settings: Mapping[str, Any]) -> None:
    name = settings["url"]
    line.variables([name])
    urls: list[str] = []

    def read() -> str:
        urls.append(parse_redis(line.environment.required(name, "redis://user:password@host:6379/0")))
        if not urlsplit(urls[0]).hostname:
            raise NotThere(f"{name} names no host")
        return "readable"

    line.step("address", read)
    (url,) = urls
    parts = urlsplit(url)
    line.connect(parts.hostname or "", parts.port or 6379)
    line.step("AUTH", lambda: _log_in(url))
    if settings["passwordRequired"]:
        line.step("refuses others", lambda: _try_without_password(url))
    line.step("write", lambda: _write(url, settings["keyPrefix"]))


def _log_in(url: str) -> str:
    with _connected(url) as client:
        try:
            client.ping()
        except exceptions.NoPermissionError:
            pass  # logged in: PING is not among its commands
        except exceptions.AuthenticationError as error:
            raise NotThere(f"login refused: {error}") from None
    return "login accepted"


def _try_without_password(url: str) -> str:
    parts = urlsplit(url)
    query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] not in ("username", "password")])
    with _connected(joined(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))) as client:
        try:
            client.ping()
        except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
            return f"without a password: {error}"
    raise NotThere("the server accepts clients without a password")


def _write(url: str, prefix: str) -> str:
    key, value = f"{prefix}{secrets.token_hex(8)}", secrets.token_hex(8)
    with _connected(url) as client:
        client.set(key, value, ex=_KEEP_SECONDS)
        read: Any = client.get(key)
        client.delete(key)
    if read is None or bytes(read).decode() != value:
        raise NotThere("the key just written could not be read back")
    return "a key was written, read and deleted"


@contextmanager
def _connected(url: str) -> Iterator[Redis]:
    client = Redis.from_url(
        url,
        protocol=2,
        single_connection_client=False,
        client_name="runbook-go-live",
        socket_connect_timeout=SECONDS,
        socket_timeout=SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    with closing(client):
        yield client
