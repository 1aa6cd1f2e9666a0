"""A PostgreSQL and a Redis whose roles rotate, by period, and their common base class.

The tests check logins and the server's state with psql, psycopg and redis-cli, not with the code of tasks.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from components.redis_server import start_command
from tasks.__main__ import main
from tests.support.proxy import Cut, proxy
from tests.support.servers import BIN, Postgres, free_ports, running
from tests.support.task_processes import Outcome, task

_PSQL, _REDIS_CLI = [BIN / "psql", "-XAtq", "-c", "SELECT 1"], ["redis-cli"]


class World(ABC):
    """A server whose application begins with period 0."""

    kind: str
    port: int

    def __init__(self) -> None:
        self._passwords: dict[str, str] = {}

    @abstractmethod
    def role(self, period: int) -> str: ...

    @abstractmethod
    def url(self, role: str, password: str, port: int | None = None) -> str: ...

    @abstractmethod
    def accepts(self, role: str, password: str) -> bool: ...

    @abstractmethod
    def state(self) -> Any:
        """All that rotation may change."""

    @abstractmethod
    def own_names(self) -> list[tuple[str, str]]:
        """A common name, and what this world's state has in its place."""

    @abstractmethod
    def session(self, role: str, password: str) -> Session:
        """A client that stays connected."""

    def password(self, of: str) -> str:
        """It has characters that a URL must escape. No log may contain it."""
        return self._passwords.setdefault(of, f"{of}/@'{secrets.token_hex(8)}")

    def of_period(self, period: int) -> str:
        return self.password(f"p{period}")

    def of_admin(self, period: int) -> str:
        """Period 0 is the admin itself."""
        return self.of_period(0) if period == 0 else self.password(f"admin{period}")

    @property
    def plaintexts(self) -> set[str]:
        return {each for password in self._passwords.values() for each in (password, quote(password, safe=""))}

    def environment(self, new: int, old: int, port: int | None = None) -> dict[str, str]:
        admin = self.role(0)
        values = {
            "ADMIN_URL": self.url(admin, self.of_admin(new), port),
            "ADMIN_URL_PREVIOUS": self.url(admin, self.of_admin(old), port),
            "NEW_URL": self.url(self.role(new), self.of_period(new), port),
            "OLD_URL": self.url(self.role(old), self.of_period(old), port),
            "OWNER": admin,
        }
        return {f"ROTATE_{self.kind.upper()}_{name}": value for name, value in values.items()}

    def run(self, verb: str, new: int, old: int, *flags: str, **changed: str) -> Outcome:
        return task(self.environment(new, old) | changed, "credentials", verb, self.kind, *flags)

    def done(self, verb: str, new: int, old: int, *flags: str) -> dict[str, Any]:
        outcome = self.run(verb, new, old, *flags)
        assert outcome.exit_code == 0, outcome
        return outcome.result

    def accepted(self, period: int) -> bool:
        return self.accepts(self.role(period), self.of_period(period))

    def admin_accepted(self, period: int) -> bool:
        return self.accepts(self.role(0), self.of_admin(period))

    @contextmanager
    def live(self, role: str, password: str) -> Iterator[Session]:
        with closing(self.session(role, password)) as client:
            assert client.is_alive()
            yield client


@dataclass(frozen=True)
class Session:
    """A connection of an old pod."""

    is_alive: Callable[[], bool]
    close: Callable[[], None]


class Database(World):
    kind = "database"

    def __init__(self, server: Postgres) -> None:
        super().__init__()
        self.server, self.port = server, server.port
        self.owner = f"shop_{secrets.token_hex(3)}"
        with server.connect() as admin:
            verifier = admin.pgconn.encrypt_password(self.of_period(0).encode(), self.owner.encode(), b"scram-sha-256")
            create = sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}")
            admin.execute(create.format(sql.Identifier(self.owner), sql.Literal(verifier.decode())))

    def role(self, period: int) -> str:
        return f"{self.owner}_{'ab'[period % 2]}" if period else self.owner

    def url(self, role: str, password: str, port: int | None = None) -> str:
        return f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{port or self.port}/postgres"

    def accepts(self, role: str, password: str) -> bool:
        done = subprocess.run(_PSQL, env=self._client(role, password), capture_output=True, text=True)
        refused = "password authentication failed" in done.stderr or "is not permitted to log in" in done.stderr
        assert done.returncode == 0 or refused, done.stderr
        return done.returncode == 0

    def session(self, role: str, password: str) -> Session:
        connection = psycopg.connect(self.url(role, password), autocommit=True, application_name="an old pod")

        def is_alive() -> bool:
            try:
                return connection.execute("SELECT 1").fetchone() == (1,)
            except psycopg.OperationalError:
                return False

        return Session(is_alive, connection.close)

    def state(self) -> Any:
        query = """
            SELECT r.rolname, rolcanlogin, rolsuper, rolpassword LIKE 'SCRAM-SHA-256$%%', s.setconfig,
                   ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid ORDER BY 1)
            FROM pg_authid r LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid
            WHERE starts_with(rolname, %s) ORDER BY 1"""
        with self.server.connect() as admin:
            return admin.execute(query, [self.owner]).fetchall()

    def own_names(self) -> list[tuple[str, str]]:
        return [("shop", self.owner)]

    def _client(self, role: str, password: str) -> dict[str, str]:
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGDATABASE": "postgres"}
        return {**os.environ, **where, "PGUSER": role, "PGPASSWORD": password}


class Cache(World):
    """Redis as its image starts it; `users` is the users file in its Secret, without `default`."""

    kind = "redis"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.admin_password, self.users = self.of_period(0), ""
        self.log: list[str] = []
        (self.port,) = free_ports(1)

    @contextmanager
    def serving(self, *options: str) -> Iterator[None]:
        files = {"REDIS_PASSWORD_FILE": self.folder / "password", "REDIS_USERS_FILE": self.folder / "users"}
        files["REDIS_PASSWORD_FILE"].write_text(self.admin_password)
        files["REDIS_USERS_FILE"].write_text(f"# users\n{self.users}")
        environment = {**os.environ, **{name: str(path) for name, path in files.items()}}
        command = start_command("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), *options)
        with running([*command, "--loglevel", "debug"], "Ready to accept", environment=environment, log=self.log):
            yield

    def role(self, period: int) -> str:
        return f"shop-{'ab'[period % 2]}" if period else "default"

    def url(self, role: str, password: str, port: int | None = None) -> str:
        return f"redis://{role}:{quote(password, safe='')}@127.0.0.1:{port or self.port}/0"

    def accepts(self, role: str, password: str) -> bool:
        answer = self.command(role, password, "ping")
        assert answer == "PONG" or "WRONGPASS" in answer, answer
        return answer == "PONG"

    def command(self, role: str, password: str, *words: str) -> str:
        done = subprocess.run(
            [*_REDIS_CLI, *self._where(role), *words], env=self._secret(password), capture_output=True, text=True
        )
        return (done.stderr + done.stdout).strip()

    def admin(self, *words: str) -> str:
        """Run a command as the admin, with the password that the server accepts now."""
        password = next(each for each in self._passwords.values() if self.accepts("default", each))
        return self.command("default", password, *words)

    def session(self, role: str, password: str) -> Session:
        retry = Retry(NoBackoff(), 0)
        connection = Redis.from_url(self.url(role, password), single_connection_client=True, protocol=2, retry=retry)
        mine = connection.connection

        def is_alive() -> bool:
            try:
                mine.send_command("PING")  # type: ignore[union-attr] - with one connection there is one
                return mine.read_response() == b"PONG"  # type: ignore[union-attr]
            except exceptions.ConnectionError:
                return False

        return Session(is_alive, connection.close)

    def state(self) -> Any:
        # The order of words has no meaning; sanitize-payload is the default.
        return sorted(sorted({*line.split()} - {"sanitize-payload"}) for line in self.admin("acl", "list").splitlines())

    def user_line(self, period: int, rules: str) -> str:
        return f"user {self.role(period)} on #{hashlib.sha256(self.of_period(period).encode()).hexdigest()} {rules}\n"

    def own_names(self) -> list[tuple[str, str]]:
        return [(name, hashlib.sha256(each.encode()).hexdigest()) for name, each in self._passwords.items()]

    def _where(self, role: str) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "--user", role]

    @staticmethod
    def _secret(password: str) -> dict[str, str]:
        return {**os.environ, "REDISCLI_AUTH": password}


def killed_before(message: int, port: int, environment_at: Callable[[int], Mapping[str, str]], *words: str) -> bool:
    """Run a task and kill it before it sends this message; False if it ends before."""
    sent, child = 0, 0

    def count(data: bytes) -> bytes:
        nonlocal sent
        sent += 1
        if sent == message:
            os.kill(child, signal.SIGKILL)
        if sent >= message:
            raise Cut
        return data

    with proxy(port, up=count) as wire:
        environment = environment_at(wire.port)
        child = os.fork()
        if child == 0:
            _be_task(environment, words)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _be_task(environment: Mapping[str, str], words: tuple[str, ...]) -> None:
    """In the child: run the task without the second that starting Python takes."""
    try:
        os.environ.clear()
        os.environ.update(environment)
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it ends with the process
        os._exit(main([*words]))
    finally:
        os._exit(99)
