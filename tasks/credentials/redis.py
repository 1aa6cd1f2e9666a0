"""Redis users. ACL SETUSER does not survive a restart: the server's configuration must contain the same users."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tasks.connection_url import Unusable, parse_redis
from tasks.credentials.server import Account, Use
from tasks.errors import Refused, TaskError

RULES = "~* &* +@all -@admin -@dangerous +info"
"""Rights of the application: all commands on its data, and reading the server's state."""
MONITOR_RULES = "-@all +info +ping +client|setname +latency|latest +slowlog|len"
"""Rights of the exporter."""

# One @ at most: an unescaped one in a password would be taken for the host's, and shown.
_FORM = re.compile(r"rediss?://([^@/?#\s]*@)?(\[[^@\s]+\]|[^@/?#:\s]+)(:\d+)?(/\d*)?(\?[^#\s]*)?")
_EXAMPLE = "redis://user:password@host:6379/0"
_CONNECT_SECONDS = 10
_RETRY_SECONDS = 0.2
_SCAN = 1000


def account(url: str, variable: str) -> Account:
    try:
        read = parse_redis(url)
        parts = urlsplit(read)
        user, password = unquote(parts.username or "default"), unquote(parts.password or "")
        if _FORM.fullmatch(read):
            return Account(user, password, read, variable)
    except Unusable as error:
        raise Refused("environment_invalid", f"{variable}: {error}") from None
    except ValueError:
        pass
    # The URL is not shown: an unescaped @ or / in the password is the usual reason that it is invalid.
    raise Refused(
        "environment_invalid",
        f"{variable} is no Redis URL; it has to look like {_EXAMPLE}, "
        "with every special character of the password written as %XX",
    )


class RedisServer:
    def __init__(self, admins: Sequence[Account]) -> None:
        self._admins = admins

    def accepts(self, account: Account) -> bool:
        connection = _login(account)
        if connection:
            connection.close()
        return connection is not None

    def prove(self, account: Account) -> None:
        connection = _login(account)
        if connection is None:
            raise TaskError("new_refused", f"the server refuses {account.role} of {account.variable}; run prepare")
        key, value = f"runbook:credentials:{secrets.token_hex(8)}", secrets.token_bytes(8)
        with closing(connection), _translate_errors():
            connection.set(key, value, ex=60)
            kept = connection.get(key) == value
            if not (connection.delete(key) and kept):
                raise TaskError("redis_failed", f"{account.role} could not read back the key it wrote")

    def admit(self, account: Account) -> None:
        self._set_user(account.role, "reset", "on", _hash(account), *RULES.split())

    def admit_monitor(self, account: Account) -> None:
        self._set_user(account.role, "reset", "on", _hash(account), *MONITOR_RULES.split())

    def refuse_logins(self, role: str) -> None:
        self._set_user(role, "off", "resetpass")

    def set_admin_password(self, admin: Account) -> None:
        self._set_user(admin.role, "resetpass", _hash(admin))

    def uses(self, role: str | None = None) -> list[Use]:
        counts: dict[tuple[str, str, str], list[datetime]] = defaultdict(list)
        now = datetime.now(UTC)
        for client in self._clients():
            if role in (None, client["user"]):
                since = now - timedelta(seconds=int(client["age"]))
                counts[client["user"], client["name"], client["addr"].rpartition(":")[0]].append(since)
        return [Use(*who, len(since), min(since)) for who, since in sorted(counts.items())]

    def sessions(self) -> list[dict[str, Any]]:
        counts = Counter(client["user"] for client in self._clients())
        return [{"role": user, "count": count} for user, count in sorted(counts.items())]

    def end_sessions(self, role: str) -> int:
        with _translate_errors():
            return int(self._admin.client_kill_filter(user=role, skipme=True))

    def log_out(self, patterns: Sequence[str]) -> int:
        """Remove the keys that match; return their number."""
        removed = 0
        with _translate_errors():
            for pattern in patterns:
                cursor = None
                while cursor != 0:
                    cursor, keys = self._admin.scan(cursor or 0, match=pattern, count=_SCAN)  # type: ignore[misc]
                    removed += int(self._admin.unlink(*keys)) if keys else 0  # type: ignore[arg-type]
        return removed

    def _clients(self) -> list[dict[str, str]]:
        with _translate_errors():
            mine = str(self._admin.client_id())
            found: list[dict[str, str]] = self._admin.client_list()  # type: ignore[assignment]
        # A client that has not authenticated counts as `default` and has sent no command.
        return [client for client in found if client["id"] != mine and client["cmd"] != "NULL"]

    def _set_user(self, *words: str) -> None:
        # A single command is atomic.
        with _translate_errors():
            self._admin.execute_command("ACL", "SETUSER", *words)

    def close(self) -> None:
        if "_admin" in self.__dict__:
            self._admin.close()

    @cached_property
    def _admin(self) -> Redis:
        for admin in self._admins:
            if connection := _login(admin):
                return connection
        tried = " and ".join(admin.variable for admin in self._admins)
        raise TaskError("admin_refused", f"the server refuses {self._admins[0].role} with the password of {tried}")


def _hash(account: Account) -> str:
    if not account.password:
        raise Refused("environment_invalid", f"{account.variable} has no password; write for example {_EXAMPLE}")
    return f"#{hashlib.sha256(account.password.encode()).hexdigest()}"


def _login(account: Account) -> Redis | None:
    """None if the server refuses the user or its password."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            return Redis.from_url(
                account.url,
                protocol=2,
                single_connection_client=True,
                client_name="runbook-credentials",
                socket_connect_timeout=_CONNECT_SECONDS,
                socket_timeout=_CONNECT_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
        except exceptions.AuthenticationError:
            return None
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            # Retry: a restarting server refuses connections, and so does the network of a new pod.
            if time.monotonic() > deadline:
                raise TaskError(
                    "redis_unreachable", f"Redis of {account.variable} cannot be reached: {error}"
                ) from None
        except exceptions.RedisError as error:
            raise TaskError("redis_failed", f"Redis of {account.variable}: {error}") from None
        except (TypeError, ValueError):
            why = f"{account.variable} is not understood by Redis' client: look at its port, and at what is after its ?"
            raise Refused("environment_invalid", why) from None
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except exceptions.RedisError as error:
        raise TaskError("redis_failed", f"Redis: {error}") from None
