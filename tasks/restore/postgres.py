"""Databases on a PostgreSQL server, made, filled, compared and exchanged."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection, Error, OperationalError, errors, sql

from tasks.backup.manifest import ENCRYPTED, Manifest
from tasks.backup.postgres import (
    Database,
    major,
    partition_roots,
    program_version,
    row_counts,
    schema_level,
    server_version,
    system_identifier,
)
from tasks.errors import Refused, TaskError
from tasks.progress import say
from tasks.restore import cron_jobs, replication, swap_databases
from tasks.restore.closed_database import ClosedPostgres
from tasks.restore.database_properties import create_like
from tasks.restore.integrity import Integrity, indexes, page_checksums
from tasks.restore.postgres_load import Loading
from tasks.sessions import Sessions

_LONGEST_NAME = 63
_LONGEST_OF_COPIES = 31
"""Bytes of the live database's name that leave room for what a copy's name has behind them."""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"


class PostgresTarget:
    def __init__(
        self,
        database: Database,
        reader: Database,
        *,
        schema: str | None = None,
        throw_away: bool = False,
        administrator: Database | None = None,
    ) -> None:
        """`reader` is the login that may read all of it; `administrator` may end sessions of other logins."""
        self.live = database.name
        self._database = database
        self._reader = reader
        self._schema = schema
        self._throw_away = throw_away
        administer = administrator and (lambda: self._connect(administrator))
        self._sessions = Sessions(lambda: self._connect(database), administer)

    @property
    def identity(self) -> str:
        return self._database.shown

    def server(self) -> str | None:
        with self._server() as server:
            return system_identifier(server)

    def version(self) -> str:
        with self._server() as server:
            return server_version(server)

    def accept(self, manifest: Manifest) -> None:
        if manifest.engine != "postgresql":
            raise Refused(
                "engine_differs", f"backup {manifest.id} is of {manifest.engine}, this is a PostgreSQL server"
            )
        here, dumped = self.version(), major(manifest.tools.get("pg_dump", manifest.server_version))
        program = program_version("pg_restore", here, least=dumped)
        for what, version, of in (
            (f"the server of {self._database.shown}", here, major(manifest.server_version)),
            ("pg_restore here", program, max(major(manifest.server_version), dumped)),
        ):
            if major(version) < of:
                raise Refused(
                    "server_older_than_dump",
                    f"backup {manifest.id} is of PostgreSQL {manifest.server_version}, made by pg_dump {dumped}, "
                    f"{what} is {version}: restore with version {of} or newer",
                )

    def databases(self) -> frozenset[str]:
        with self._server() as server:
            return frozenset(name for (name,) in server.execute("SELECT datname FROM pg_database").fetchall())

    def copy_name(self, role: str, part: str) -> str:
        name = f"{_shortened(self.live)}_{role}_{part}"
        self.check_name(name)
        return name

    def retired_name(self, role: str, part: str) -> str:  # noqa: ARG002 - the note has the backup
        return self.copy_name(role, secrets.token_hex(8))

    def check_name(self, name: str) -> None:
        if not name or len(name.encode()) > _LONGEST_NAME:
            raise Refused(
                "name_invalid", f"{name!r} cannot be the name of a database: 1 to {_LONGEST_NAME} bytes are allowed"
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._server() as server:
            row = server.execute(_LOCK, (f"runbook restore of {self.live}",)).fetchone()
            if not row or not row[0]:
                raise TaskError(
                    "restore_running", f"another restore beside {self._database.shown} is running: wait for its end"
                )
            yield

    def create(self, name: str) -> None:
        with self._server() as server:
            if self.live in self.databases():
                create_like(server, self.live, name)
            else:
                server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))

    def load(self, name: str, folder: Path, manifest: Manifest, jobs: int) -> tuple[str, ...]:
        return Loading(
            database=self._database.named(name),
            server=self._server,
            inside=lambda: self._inside(name),
            archive=folder / _archive_name(manifest),
            roles=(folder / "roles.sql").read_text(),
            manifest=manifest,
            version=self.version(),
            jobs=jobs,
            test=self._throw_away,
            jobs_stay=self._has_jobs(),
        ).run()

    def _has_jobs(self) -> bool:
        if self._throw_away or self.live not in self.databases():
            return False
        with self._inside(self.live) as live:
            return cron_jobs.has_jobs(live)

    def find_as_release(self, manifest: Manifest, level_query: str | None) -> dict[str, Any]:
        application = manifest.application
        if application and application.schema != self._schema:
            raise Refused(
                "environment_invalid",
                f"the application's URL has schema={application.schema or '(none)'}, RESTORE_DATABASE_URL has "
                f"{self._schema or '(none)'}: the release of the test would look elsewhere for its tables. Give both "
                "the same parameter",
            )
        with self._translate_errors(self._database.connect("runbook restore")) as connection:
            role, path = connection.execute("SELECT current_user::text, current_setting('search_path')").fetchall()[0]
            return {"role": role, "search_path": path, "schema_level": schema_level(connection, level_query)}

    def analyze(self, name: str) -> None:
        with self._inside(name) as connection:
            # Without statistics the first queries may be very slow.
            connection.execute("ANALYZE")

    def rows(self, name: str) -> dict[str, int]:
        with self._reading(name) as connection:
            return row_counts(connection)

    def roots(self, name: str) -> dict[str, str]:
        with self._inside(name) as connection:
            return partition_roots(connection)

    def has_sentinel(self, name: str, token: str) -> bool:
        with self._inside(name) as connection:
            try:
                row = connection.execute("SELECT 1 FROM runbook.sentinel WHERE token = %s", (token,)).fetchone()
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                return False
            return row is not None

    def integrity(self, name: str, rows_read: Callable[[], object]) -> Integrity:
        with self._inside(name) as connection:
            _mute_event_triggers(connection)
            checked = indexes(connection)
            rows_read()  # a broken page is counted when it is read
            pages = page_checksums(connection)
            return Integrity(
                passed=not checked.broken and not pages.get("failures"),
                findings={"amcheck": checked.to_json(), "data_checksums": pages},
            )

    def publish(self, half_made: str, name: str, note: Mapping[str, Any] | None) -> None:
        swap_databases.rename(self._sessions, half_made, name, None if note is None else _written(note))

    def drop(self, name: str) -> None:
        with self._naming_errors():
            swap_databases.drop(self._sessions, name)

    @contextmanager
    def closed(self, name: str) -> Iterator[ClosedPostgres]:
        with self._server() as server:
            swap_databases.allow_connections(server, name, allow=True)  # a killed command left it closed
            with self._reading(name) as inside:
                swap_databases.allow_connections(server, name, allow=False)
                try:
                    self._sessions.clear(name, [inside.info.backend_pid])
                except TaskError:
                    swap_databases.allow_connections(server, name, allow=True)
                    raise
                yield ClosedPostgres(inside)

    def reopen(self, name: str) -> None:
        with self._server() as server:
            swap_databases.allow_connections(server, name, allow=True)

    def note(self, name: str) -> dict[str, Any] | None:
        with self._server() as server:
            row = server.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)
            ).fetchone()
        try:
            note = json.loads(row[0])["runbook"] if row and row[0] else None
        except (ValueError, TypeError, KeyError):  # a comment of another origin
            return None
        return note if isinstance(note, dict) else None

    def set_note(self, name: str, note: Mapping[str, Any]) -> None:
        with self._server() as server:
            swap_databases.comment(server, name, _written(note))

    def mark(self) -> dict[str, Any] | None:
        with self._inside(self.live) as connection:
            try:
                row = connection.execute("SELECT of FROM runbook.restored").fetchone()
            except (errors.UndefinedTable, errors.InsufficientPrivilege):
                return None
            return row and row[0]

    def set_mark(self, name: str, mark: Mapping[str, Any] | None) -> None:
        with self._inside(name) as connection, connection.transaction():
            _mute_event_triggers(connection)
            connection.execute("DROP TABLE IF EXISTS runbook.restored")
            if mark is not None:
                connection.execute("CREATE TABLE runbook.restored (of jsonb NOT NULL)")
                connection.execute("INSERT INTO runbook.restored VALUES (%s)", (json.dumps(mark),))

    def moment(self, name: str) -> int:  # noqa: ARG002 - the server's databases have one count of transactions
        with self._server() as server:
            return int(server.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()[0])  # type: ignore[index]

    def url(self, name: str) -> str:
        return self._database.named(name).url

    def swap(self, incoming: str, outgoing: str) -> None:
        swap_databases.swap_databases(self._sessions, self.live, incoming, outgoing)

    def require_swappable(self) -> None:
        if self.live in self.databases():
            with self._inside(self.live) as connection:
                cron_jobs.require_movable(connection, self.live)
                replication.require_none(connection, self.live)

    def keep_jobs(self, replaced: str) -> None:
        with self._inside(self.live) as live:
            if cron_jobs.has_jobs(live) or not cron_jobs.may_have_jobs(live):
                return
            self.reopen(replaced)  # a killed command left it closed
            with self._inside(replaced) as old:
                if jobs := cron_jobs.move_jobs(old, live):
                    say(f"{jobs} jobs of pg_cron are those of {replaced}")

    def shown(self, name: str) -> str:
        return self._database.named(name).without_password

    def _connect(self, database: Database) -> Connection[Any]:
        """A connection outside the databases that are worked on: one cannot be renamed from inside."""
        if self.live != "postgres":
            try:
                return database.named("postgres").connect("runbook restore", unlimited=True)
            except TaskError as error:
                if "does not exist" not in str(error):  # as with some providers
                    raise
        return database.named("template1").connect("runbook restore", unlimited=True)

    @contextmanager
    def _server(self) -> Iterator[Connection[Any]]:
        with self._translate_errors(self._connect(self._database)) as server:
            yield server

    @contextmanager
    def _inside(self, name: str) -> Iterator[Connection[Any]]:
        # A test's database makes its login another role: that is for the release, not for what is done here.
        options = {"options": "-c role=none"} if self._throw_away else {}
        database = self._database.named(name)
        with self._translate_errors(database.connect("runbook restore", unlimited=True, **options)) as connection:
            yield connection

    @contextmanager
    def _reading(self, name: str) -> Iterator[Connection[Any]]:
        if self._reader == self._database:
            with self._inside(name) as connection:
                yield connection
        else:
            database = self._reader.named(name)
            with self._translate_errors(database.connect("runbook restore", unlimited=True)) as connection:
                yield connection

    @contextmanager
    def _translate_errors(self, connection: Connection[Any]) -> Iterator[Connection[Any]]:
        with closing(connection), self._naming_errors():
            yield connection

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except Error as error:
            why = " ".join(str(error).split())
            if isinstance(error, errors.DiskFull):
                raise TaskError("disk_full", f"the server of {self._database.shown}: {why}") from None
            gone = isinstance(error, OperationalError)
            code = "database_unreachable" if gone else "database_refused"
            raise TaskError(code, f"{self._database.shown} {'went away' if gone else 'refused'}: {why}") from None


def _shortened(live: str) -> str:
    if len(live.encode()) <= _LONGEST_OF_COPIES:
        return live
    # The hash distinguishes databases with the same beginning.
    return f"{live.encode()[:22].decode(errors='ignore')}_{hashlib.sha256(live.encode()).hexdigest()[:8]}"


def _mute_event_triggers(connection: Connection[Any]) -> None:
    """Those of the application may forbid DDL; a restore by a role that is no superuser brings none."""
    if connection.info.parameter_status("is_superuser") == "on":
        connection.execute("SET session_replication_role = replica")


def _archive_name(manifest: Manifest) -> str:
    """The dump's file, or the folder of a directory dump."""
    return manifest.dump[0].name.partition("/")[0].removesuffix(ENCRYPTED)


def _written(note: Mapping[str, Any]) -> str:
    return json.dumps({"runbook": note})
