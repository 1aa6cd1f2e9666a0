"""Backing up PostgreSQL: pg_dump and the row counts see the same snapshot."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.errors import InsufficientPrivilege, LockNotAvailable

from tasks.backup import programs
from tasks.backup.files import Files
from tasks.backup.manifest import Application, Origin, Sentinel
from tasks.backup.patience import Patience
from tasks.backup.postgres import (
    Database,
    holds_anything,
    major,
    program,
    program_version,
    row_counts,
    schema_level,
    server_version,
    system_identifier,
    tables,
    url_schema,
)
from tasks.backup.readable import require_readable
from tasks.backup.scratch import scratch
from tasks.backup.source import SENTINELS_KEPT, Snapshot
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.progress import step

LOCK = 0x52756E626F6F6B
"""The advisory lock of backups: any constant does, an application's own are smaller or hashed."""

_MOST_CLOCK_SECONDS = 300
_ANSWER_SECONDS = 2.0
_WAIT_SECONDS = 30.0
"""For the lock, in one statement: a longer one would keep VACUUM from removing what was deleted meanwhile."""
_WAIT_FOR_TABLE_LOCKS = "5min"

_HOLDER = """
SELECT a.pid, a.application_name, a.client_addr, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %s
"""
_INSTANCE = """
SELECT extract(epoch FROM pg_postmaster_start_time())::text, oid::text
FROM pg_database WHERE datname = current_database()
"""
_MAKE_SENTINEL = (
    # Each is looked for first: IF NOT EXISTS wants the right to create also when there is nothing to create.
    ("SELECT to_regnamespace('runbook') IS NULL", b"CREATE SCHEMA runbook"),
    (
        "SELECT to_regclass('runbook.sentinel') IS NULL",
        b"CREATE TABLE runbook.sentinel (token text PRIMARY KEY, written_at timestamptz NOT NULL)",
    ),
)
_TRIM_SENTINELS = """
DELETE FROM runbook.sentinel
WHERE token NOT IN (SELECT token FROM runbook.sentinel ORDER BY written_at DESC LIMIT %s)
"""

_ORDER_OF_A_LIBRARY = """
SELECT EXISTS (
  SELECT 1 FROM pg_partitioned_table p, unnest(p.partcollation) AS used
  JOIN pg_collation c ON c.oid = used JOIN pg_database d ON d.datname = current_database()
  WHERE (p.partstrat = 'r' OR NOT c.collisdeterministic)
    AND NOT (CASE c.collprovider WHEN 'd' THEN coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
                                 ELSE c.collprovider::text END = 'c'
             AND CASE c.collprovider WHEN 'd' THEN d.datcollate ELSE c.collcollate END IN ('C', 'POSIX')))
"""
"""Whether rows may belong to other partitions on another server: then the dump leaves it to the root to sort them."""

_COMPRESSION = "--compress=3"
"""A dump is as fast as its compression: a gigabyte took 12 s with zlib's 3 and 19 s with the default, 6."""


@dataclass(frozen=True)
class _Plan:
    """What one dump goes by."""

    connection: Connection[Any]
    snapshot: str
    server: str
    """Its version."""
    via_root: bool
    encoding: str
    """Of the dump: restores read its statements. SQL_ASCII has bytes of any, which no server would convert."""


@dataclass(frozen=True)
class PostgresSource:
    database: Database
    format: Literal["custom", "directory"]
    jobs: int
    level_query: str | None
    environment: Environment
    reader: Database
    """The login that reads all of it: BACKUP_DATABASE_URL, or the application's own."""
    engine: Literal["postgresql"] = "postgresql"

    @classmethod
    def from_environment(cls, url: str, environment: Environment) -> PostgresSource:
        return cls(
            Database.at(url),
            "directory" if environment.one_of("BACKUP_FORMAT", ("custom", "directory")) == "directory" else "custom",
            environment.integer("BACKUP_JOBS", least=1) or 1,
            environment.text("SCHEMA_LEVEL_QUERY"),
            environment,
            reader_of(url, environment),
        )

    @property
    def name(self) -> str:
        return self.database.name

    def level(self) -> int | None:
        with self.connected() as connection:
            return schema_level(connection, self.level_query)

    def is_empty(self) -> bool:
        with self.connected() as connection:
            return not holds_anything({f"{schema}.{table}": 0 for schema, table in tables(connection)})

    @contextmanager
    def alone(self, patience: Patience) -> Iterator[Callable[[], AbstractContextManager[Snapshot]]]:
        with self.locked(patience) as connection:
            yield lambda: self._snapshot(connection)

    @contextmanager
    def locked(self, patience: Patience) -> Iterator[Connection[Any]]:
        """A connection that holds the lock of backups: of one database there is one at a time."""
        with self.connected() as connection:
            while not _one(connection, "SELECT pg_try_advisory_lock(%s)", LOCK):
                if _await_lock(connection, patience.spend(self._running(connection), most=_WAIT_SECONDS)):
                    break
            yield connection

    def origin(self, stack: str | None) -> tuple[Origin, str]:
        with self.connected() as connection:
            server = system_identifier(connection)
            started, database = connection.execute(_INSTANCE).fetchone() or ("", "")
        return Origin(stack, server), f"{server}/{started}/{database}"

    def require_readable(self) -> None:
        """`database_unreadable` where a backup would miss rows."""
        with self.connected(self.reader) as connection:
            require_readable(connection, self.reader.shown)

    @contextmanager
    def _snapshot(self, locked: Connection[Any]) -> Iterator[Snapshot]:
        """`locked` is the application's connection with the lock; another login reads by a connection of its own."""
        with ExitStack() as stack:
            connection = locked
            if self.reader != self.database:
                connection = stack.enter_context(self.connected(self.reader))
                # SCHEMA_LEVEL_QUERY finds its table where the application does.
                path = _one(locked, "SELECT current_setting('search_path')")
                connection.execute("SELECT set_config('search_path', %s, false)", (path,))
            yield stack.enter_context(self._snapshot_by(connection, locked))

    @contextmanager
    def _snapshot_by(self, connection: Connection[Any], locked: Connection[Any]) -> Iterator[Snapshot]:
        server = server_version(connection)
        client = program_version("pg_dump", server)
        if major(client) < major(server):
            raise TaskError(
                "client_older_than_server",
                f"pg_dump {client} cannot dump {self.database.shown}, which is version {server}: "
                f"use a tasks image with PostgreSQL's programs of version {major(server)} or newer",
            )
        application = self._application(locked)
        self._see_clock(connection)
        sentinel = self._write_sentinel(locked)
        require_readable(connection, self.reader.shown)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            exported = _one(connection, "SELECT pg_export_snapshot()")
            taken_at = datetime.now(UTC)
            encoding = "SQL_ASCII" if _one(connection, "SHOW server_encoding") == "SQL_ASCII" else "UTF8"
            plan = _Plan(connection, exported, server, _one(connection, _ORDER_OF_A_LIBRARY), encoding)
            yield Snapshot(
                taken_at=taken_at,
                server_version=server,
                database_bytes=_one(connection, "SELECT pg_database_size(current_database())"),
                schema_level=schema_level(connection, self.level_query),
                sentinel=sentinel,
                format=self.format,
                tools={name: program_version(name, server) for name in ("pg_dump", "pg_dumpall")},
                dump=lambda files, backup: self._dump(plan, files, backup),
                application=application,
                via_root=plan.via_root,
                still_alone=lambda: self._see_alone(locked),
            )

    def _application(self, locked: Connection[Any]) -> Application:
        """Role and search_path of the application: the release of a restore test has to find the same tables."""
        login, role, path = locked.execute(
            "SELECT session_user::text, current_user::text, current_setting('search_path')"
        ).fetchall()[0]
        return Application(login, role, path, url_schema(self.environment.text("DATABASE_URL") or ""))

    def _dump(self, plan: _Plan, files: Files, backup: str) -> tuple[str, Mapping[str, int]]:
        connection = plan.connection
        expected = _one(connection, "SELECT pg_database_size(current_database())")
        with ThreadPoolExecutor(1, thread_name_prefix="count") as pool:
            counting = pool.submit(row_counts, connection)
            try:
                if self.format == "directory":
                    self._dump_directory(plan, files, backup)
                else:
                    files.take(f"{backup}.dump", self._output("pg_dump", plan, *self._flags(plan)), expected)
                self._take_roles(plan, files)
                counts = counting.result()
            except BaseException as error:
                if counting.done() and (cause := counting.exception()):
                    raise cause from error  # its snapshot is gone too: pg_dump reports only that
                answers = _answers(connection, pool)
                if isinstance(error, TaskError) and error.code == "dump_failed" and not answers:
                    # pg_dump has many messages for a lost server; this connection's state is certain.
                    raise self._lost(error) from None
                raise
        return files.written[0].name if self.format == "custom" else f"{backup}.dump", counts

    def _dump_directory(self, plan: _Plan, files: Files, backup: str) -> None:
        with scratch(self.environment) as folder:
            target = folder / f"{backup}.dump"
            with step(f"pg_dump with {self.jobs} jobs into {folder}"):
                flags = [*self._flags(plan), f"--jobs={self.jobs}", f"--file={target}"]
                programs.run([program("pg_dump", plan.server), *flags], self.reader.environment())
            for file in sorted(target.iterdir()):
                files.take(f"{target.name}/{file.name}", file.open("rb"), file.stat().st_size)
                file.unlink()
            shutil.rmtree(target)

    def _take_roles(self, plan: _Plan, files: Files) -> None:
        # By the database we can reach: not every role may connect to `postgres`.
        flags = ["--roles-only", "--no-role-passwords", "--no-password", f"--database={self.reader.name}"]
        flags.append(f"--encoding={plan.encoding}")
        files.take("roles.sql", self._output("pg_dumpall", plan, *flags))

    def _flags(self, plan: _Plan) -> list[str]:
        waiting = f"--lock-wait-timeout={_WAIT_FOR_TABLE_LOCKS}"
        via_root = ["--load-via-partition-root"] if plan.via_root else []
        return [
            *(f"--format={self.format}", _COMPRESSION, f"--snapshot={plan.snapshot}", "--no-password", waiting),
            f"--encoding={plan.encoding}",
            *via_root,
        ]

    def _output(self, name: str, plan: _Plan, *flags: str) -> AbstractContextManager[Any]:
        return programs.output_of([program(name, plan.server), *flags], self.reader.environment())

    @contextmanager
    def connected(self, to: Database | None = None) -> Iterator[Connection[Any]]:
        connection = (to or self.database).connect("runbook backup", unlimited=True)
        try:
            yield connection
        except psycopg.OperationalError as error:
            why = " ".join(str(error).split())
            raise TaskError("database_unreachable", f"{self.database.shown} went away: {why}") from None
        except psycopg.Error as error:
            raise TaskError("database_refused", f"{self.database.shown}: {' '.join(str(error).split())}") from None
        finally:
            connection.close()

    def _running(self, connection: Connection[Any]) -> TaskError:
        holder = connection.execute(_HOLDER, (LOCK,)).fetchone()
        who = (
            f"pid {holder[0]} from {holder[2] or 'a local socket'}, since {holder[3]:%H:%M:%S}"
            if holder
            else "it ended"
        )
        return TaskError(
            "backup_running", f"another backup of {self.database.shown} is running ({who}); try again later"
        )

    def _see_clock(self, connection: Connection[Any]) -> None:
        there = _one(connection, "SELECT clock_timestamp()")
        there = there.astimezone(UTC)
        off = abs((there - datetime.now(UTC)).total_seconds())
        if off > _MOST_CLOCK_SECONDS:
            raise TaskError(
                "clock_wrong",
                f"this machine's clock and that of {self.database.shown} are {off:.0f} s apart ({there:%F %T} UTC "
                "there): a backup with a wrong time would be kept or deleted wrongly. Set the clocks by NTP",
            )

    def _write_sentinel(self, connection: Connection[Any]) -> Sentinel:
        token = secrets.token_hex(16)
        try:
            for missing, make in _MAKE_SENTINEL:
                if _one(connection, missing):
                    connection.execute(make)
        except InsufficientPrivilege:
            user = connection.info.user
            raise TaskError(
                "database_refused",
                f"{user} may not make the schema that a backup writes its sentinel to in {self.database.shown}; "
                f"let its owner run: CREATE SCHEMA runbook AUTHORIZATION {user}",
            ) from None
        written = _one(
            connection,
            "INSERT INTO runbook.sentinel (token, written_at) VALUES (%s, clock_timestamp()) RETURNING written_at",
            token,
        )
        connection.execute(_TRIM_SENTINELS, (SENTINELS_KEPT,))
        return Sentinel(token, written)

    def _see_alone(self, connection: Connection[Any]) -> None:
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise self._lost(error) from None

    def _lost(self, error: BaseException) -> TaskError:
        why = " ".join(str(error).split())
        return TaskError("database_unreachable", f"{self.database.shown} went away during the backup: {why}")


def reader_of(url: str, environment: Environment) -> Database:
    """The login that reads a database for its backup; refuses one of another database."""
    database, own = Database.at(url), environment.text("BACKUP_DATABASE_URL")
    if own is None:
        return database
    reader = Database.at(own, "BACKUP_DATABASE_URL")
    if reader.name != database.name:
        raise Refused(
            "environment_invalid",
            f"BACKUP_DATABASE_URL is of the database {reader.name}, DATABASE_URL of {database.name}: give the backup "
            "a login of the same database",
        )
    return reader


def _answers(connection: Connection[Any], pool: Executor) -> bool:
    """Whether the server still answers; then hang up, so that no thread waits for it any longer."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=_ANSWER_SECONDS)
    try:
        pool.submit(connection.execute, "SELECT 1").result(_ANSWER_SECONDS)
    except TimeoutError:
        return False
    except psycopg.Error:  # such as a transaction that failed with the count: that is an answer
        return not connection.closed
    finally:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
    return True


def _await_lock(connection: Connection[Any], seconds: float) -> bool:
    """Wait for the lock of backups; False when it was not free within this time."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(max(1, round(seconds * 1000))),))
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    except LockNotAvailable:
        return False
    finally:
        connection.execute("SET lock_timeout = 0")
    return True


def _one(connection: Connection[Any], query: str, *values: Any) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return row[0]
