"""A small shop with backups, for the tests of restores: its database, its store, and the command as a process.

The command runs in a fork of the test, which saves Python's start, and can be killed after a given number of acts
at the servers.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tasks.__main__ import GROUPS, main
from tasks.environment import Environment
from tests.support.servers import Postgres

for _module, _ in GROUPS.values():
    importlib.import_module(_module)  # here rather than in each fork
KILLED = -signal.SIGKILL
_BEGUN = """
SELECT query FROM pg_stat_activity WHERE state = 'active' AND query ~ '^(CREATE|ALTER|DROP) DATABASE'
"""


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str
    acts: int
    """How many acts it did at the servers."""

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])

    @property
    def code(self) -> str:
        """The error code."""
        return self.json["error"]["code"]

    @property
    def message(self) -> str:
        return self.json["error"]["message"]


def run(environment: Mapping[str, str], *words: str, kill_after: int | None = None) -> Done:
    """`python -m tasks …` with --json, killed by SIGKILL right after its `kill_after`th act."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, tempfile.TemporaryFile("w+") as acts:
        pid = os.fork()
        if pid == 0:
            _become(environment, words, kill_after, out.fileno(), err.fileno(), acts.fileno())
        _, status = os.waitpid(pid, 0)
        for file in (out, err, acts):
            file.seek(0)
        return Done(os.waitstatus_to_exitcode(status), out.read(), err.read(), len(acts.read()))


def _become(
    environment: Mapping[str, str], words: tuple[str, ...], kill_after: int | None, out: int, err: int, acts: int
) -> None:
    """In the child: run the command, then exit."""
    status = 99
    try:
        os.environ.clear()
        os.environ.update({"PATH": os.defpath, **environment})
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        _count(kill_after, acts)
        status = main([words[0], "--json", *words[1:]])
        sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _count(kill_after: int | None, acts: int) -> None:
    """Count what can change something: statements, BEGIN and COMMIT, programs started and ended. Die after the
    `kill_after`th. A SELECT changes nothing and does not count."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        os.write(acts, b".")
        if done == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(act: Callable[..., Any]) -> Callable[..., Any]:
        def ticked(*args: Any, **options: Any) -> Any:
            result = act(*args, **options)
            if not _looks(args):
                tick()
            return result

        return ticked

    def ticking_command(act: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
        def ticked(*args: Any, **options: Any) -> Any:
            result = yield from act(*args, **options)
            tick()
            return result

        return ticked

    psycopg.Connection.execute = ticking(psycopg.Connection.execute)
    psycopg.Connection._exec_command = ticking_command(psycopg.Connection._exec_command)
    subprocess.Popen.__init__ = ticking(subprocess.Popen.__init__)
    subprocess.run = ticking(subprocess.run)


def _looks(args: tuple[Any, ...]) -> bool:
    """Whether these are the arguments of `Connection.execute` with a SELECT."""
    connection, query = (*args, None, None)[:2]
    if not isinstance(connection, psycopg.Connection):
        return False
    text = query.as_string(connection) if isinstance(query, sql.Composable) else query
    return (text if isinstance(text, str) else bytes(text or b"").decode()).lstrip().startswith("SELECT")


@dataclass
class Shop:
    """A database with data, and where its backups go."""

    server: Postgres
    name: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, expect: int = 0, kill_after: int | None = None, **more: str) -> Done:
        environment = self.environment | more
        done = run(environment, *words, kill_after=kill_after)
        assert done.status == expect, f"{' '.join(words)} ended with {done.status}:\n{done.out}{done.err}"
        for secret in Environment(environment).secrets:
            assert secret not in done.out + done.err
        return done

    def back_up(self) -> str:
        """The id of a new backup."""
        return self.run("backup", "create", "--kind", "manual").json["id"]

    def swap_in(self, backup: str, *options: str) -> None:
        """Restore it in place, up to where `undo` and `finish` are possible. `options`: of `prepare`."""
        self.run("restore", "prepare", "--backup", backup, *options)
        self.run("restore", "swap")

    def back_up_heavy(self) -> str:
        """The id of a backup with 8 MiB that cannot be compressed."""
        self.server.execute(
            "CREATE TABLE heavy AS SELECT decode(string_agg(md5(random()::text), ''), 'hex') AS content "
            "FROM generate_series(1, 64 * 8192) n GROUP BY n % 64",
            self.name,
        )
        return self.back_up()

    def newest_test(self) -> Any:
        """How the newest backup's last restore test ended; None if there was none."""
        return self.run("backup", "list").json[0]["last_test"]

    def query(self, query: str, database: str | None = None, *values: Any) -> list[Any]:
        with self.server.connect(database or self.name) as connection:
            return [row[0] for row in connection.execute(query.encode(), values or None).fetchall()]

    def orders(self, database: str | None = None) -> list[str]:
        return self.query("SELECT what FROM orders ORDER BY id", database)

    def databases(self) -> set[str]:
        """Its own and every copy's."""
        return {
            name for name in self.query("SELECT datname FROM pg_database", "postgres") if name.startswith(self.name)
        }

    def phase(self) -> str:
        return self.run("restore", "state").json["phase"]

    def settle(self) -> None:
        """Wait until the server has noticed that a killed command is gone: its locks are free."""
        # Released before the connections end, which the server may notice only after the next command has begun.
        with self.server.connect() as connection:
            key = f"runbook restore of {self.name}"
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
        with self.server.connect(self.name) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (0x52756E626F6F6B,))
            connection.execute("SELECT pg_advisory_unlock(%s)", (0x52756E626F6F6B,))
        # The server ends a statement that it has begun before it looks for the client.
        while self.query(_BEGUN, "postgres"):
            time.sleep(0.02)

    def drop_copies(self) -> None:
        with self.server.connect() as connection:
            for name in self.databases() - {self.name}:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def flip(file: Path) -> None:
    """One bit in the middle."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def new_shop(server: Postgres, name: str, store: Path, scratch: Path) -> Shop:
    """Three orders by two customers, in two schemas; indexes; a sequence."""
    server.execute(
        """
        CREATE TABLE orders (id serial PRIMARY KEY, what text NOT NULL, paid boolean NOT NULL DEFAULT false);
        CREATE INDEX ON orders (what);
        CREATE SCHEMA people;
        CREATE TABLE people.customers (id serial PRIMARY KEY, name text UNIQUE);
        INSERT INTO orders (what) VALUES ('thyme'), ('mint'), ('sage');
        INSERT INTO people.customers (name) VALUES ('Ada'), ('Alan');
        """,
        name,
    )
    scratch.mkdir(exist_ok=True)
    return Shop(
        server,
        name,
        {
            "DATABASE_URL": server.url(name),
            "RESTORE_DATABASE_URL": server.url(f"{name}_test"),
            "BACKUP_STORE": f"file://{store}",
            "SCRATCH": str(scratch),
            "BACKUP_RETENTION_DAYS": "30",
        },
    )
