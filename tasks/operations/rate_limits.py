"""What a user has used of a rate limit, from the application's keys in Redis. Only reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.connection_url import Unusable, parse_redis
from tasks.errors import Refused, TaskError
from tasks.go_live.line import reach

_SECONDS = 10
_MOST_KEYS = 50
_SCANNED = 500
_SPECIAL = re.compile(r"([*?\[\]\\^-])")
_NUMBER = re.compile(rb"-?\d{1,18}(\.\d{1,9})?")


def read_rate_limits(url: str, patterns: Sequence[str], user: str) -> dict[str, Any]:
    """Every key of the user: its kind, its number or number of entries, and when it expires.

    Values that are no number are not shown: they may be a session's.
    """
    try:
        address = parse_redis(url)
    except Unusable as error:
        raise Refused("environment_invalid", f"the URL of Redis cannot be used: {error}") from None
    parts = urlsplit(address)
    with suppress(TaskError):  # the client says why the server cannot be reached
        reach(f"redis://{parts.hostname}:{parts.port or 6379}")
    # A user's name must not be a pattern that matches other users' keys.
    literal = _SPECIAL.sub(r"\\\1", user)
    client = Redis.from_url(
        address,
        protocol=2,
        client_name="runbook-debug",
        socket_connect_timeout=_SECONDS,
        socket_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    with closing(client):
        try:
            found = {
                key: None
                for pattern in patterns
                for key in islice(
                    client.scan_iter(match=pattern.replace("{user}", literal), count=_SCANNED), _MOST_KEYS + 1
                )
            }
            keys = [_read(client, key) for key in sorted(found)[:_MOST_KEYS]]
        except exceptions.RedisError as error:
            raise TaskError("redis_failed", f"Redis answers: {error}") from None
    return {"user": user, "patterns": list(patterns), "keys": keys, "more": len(found) > _MOST_KEYS}


def _read(client: Redis, key: bytes) -> dict[str, Any]:
    kind: Any = client.type(key)
    left: Any = client.pttl(key)
    name = kind.decode()
    sizes = {"list": client.llen, "hash": client.hlen, "set": client.scard, "zset": client.zcard}
    made: dict[str, Any] = {
        "key": key.decode(errors="replace"),
        "kind": name,
        "value": None,
        "entries": sizes[name](key) if name in sizes else None,
        "expiresInSeconds": round(left / 1000, 1) if left >= 0 else None,
    }
    if name == "string":
        text: Any = client.get(key)
        made["value"] = float(text) if text and _NUMBER.fullmatch(text) else None
    return made
