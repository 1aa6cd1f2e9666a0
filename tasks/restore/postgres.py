"""Databases on a PostgreSQL server, made, filled, compared and exchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import Connection, Error, OperationalError, errors, sql

from tasks.backup.manifest import ENCRYPTED, Manifest
from tasks.backup.postgres import Database, major, program_version, row_counts, server_version, system_identifier
from tasks.errors import Refused, TaskError
from tasks.progress import say
from tasks.restore import pg_restore, swap_databases
from tasks.restore.database_properties import create_like
from tasks.restore.integrity import Integrity, indexes, page_checksums

_LONGEST_NAME = 63
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_FASTER = "-c synchronous_commit=off"
"""Nothing can be lost by it: a restored database gets its name by a commit that waits for all before it."""


class PostgresTarget:
    def __init__(self, database: Database, *, throw_away: bool = False) -> None:
        self.live = database.name
        self._database = database
        self._throw_away = throw_away

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
        for what, version in (
            (f"the server of {self._database.shown}", self.version()),
            ("pg_restore here", program_version("pg_restore")),
        ):
            if major(version) < major(manifest.server_version):
                raise Refused(
                    "server_older_than_dump",
                    f"backup {manifest.id} is of PostgreSQL {manifest.server_version}, {what} is {version}: "
                    f"restore with version {major(manifest.server_version)} or newer",
                )

    def databases(self) -> frozenset[str]:
        with self._server() as server:
            return frozenset(name for (name,) in server.execute("SELECT datname FROM pg_database").fetchall())

    def copy_name(self, role: str, part: str) -> str:
        name = f"{self.live}_{role}_{part}"
        self.check_name(name)
        return name

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

    def load(self, name: str, folder: Path, manifest: Manifest, jobs: int) -> None:
        archive = folder / _archive_name(manifest)
        if self._throw_away:
            self._make_roles((folder / "roles.sql").read_text())
        target = self._database.named(name)
        environment = target.environment()
        environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {_FASTER}".strip()
        pg_restore.run(
            [
                "--exit-on-error",
                "--no-password",
                f"--jobs={jobs}",
                *self._ownership(name, archive),
                # A connection string, because a bare name with "=" in it is taken for one.
                "--dbname=dbname='{}'".format(name.replace("\\", r"\\").replace("'", r"\'")),
                str(archive),
            ],
            environment,
            f"backup {manifest.id} into {target.shown}",
        )

    def analyze(self, name: str) -> None:
        with self._inside(name) as connection:
            # Without statistics the first queries may be very slow.
            connection.execute("ANALYZE")

    def rows(self, name: str) -> dict[str, int]:
        with self._inside(name) as connection:
            return row_counts(connection)

    def has_sentinel(self, name: str, token: str) -> bool:
        with self._inside(name) as connection:
            try:
                row = connection.execute("SELECT 1 FROM runbook.sentinel WHERE token = %s", (token,)).fetchone()
            except (errors.UndefinedTable, errors.InvalidSchemaName):
                return False
            return row is not None

    def integrity(self, name: str, rows_read: Callable[[], object]) -> Integrity:
        with self._inside(name) as connection:
            checked = indexes(connection)
            rows_read()  # a broken page is counted when it is read
            pages = page_checksums(connection)
            return Integrity(
                passed=not checked.broken and not pages.get("failures"),
                findings={"amcheck": checked.to_json(), "data_checksums": pages},
            )

    def publish(self, half_made: str, name: str, note: Mapping[str, Any] | None) -> None:
        swap_databases.rename(self._connect, half_made, name, None if note is None else _written(note))

    def drop(self, name: str) -> None:
        with self._server() as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

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

    def swap(self, incoming: str, outgoing: str) -> None:
        swap_databases.swap_databases(self._connect, self.live, incoming, outgoing)

    def shown(self, name: str) -> str:
        return self._database.named(name).without_password

    def _connect(self) -> Connection[Any]:
        """A connection outside the databases that are worked on: one cannot be renamed from inside."""
        if self.live != "postgres":
            try:
                return self._database.named("postgres").connect("runbook restore")
            except TaskError as error:
                if "does not exist" not in str(error):  # as with some providers
                    raise
        return self._database.named("template1").connect("runbook restore")

    @contextmanager
    def _server(self) -> Iterator[Connection[Any]]:
        with self._translate_errors(self._connect()) as server:
            yield server

    @contextmanager
    def _inside(self, name: str) -> Iterator[Connection[Any]]:
        with self._translate_errors(self._database.named(name).connect("runbook restore")) as connection:
            yield connection

    @contextmanager
    def _translate_errors(self, connection: Connection[Any]) -> Iterator[Connection[Any]]:
        try:
            yield connection
        except Error as error:
            why = " ".join(str(error).split())
            if isinstance(error, errors.DiskFull):
                raise TaskError("disk_full", f"the server of {self._database.shown}: {why}") from None
            gone = isinstance(error, OperationalError)
            code = "database_unreachable" if gone else "database_refused"
            raise TaskError(code, f"{self._database.shown} {'went away' if gone else 'refused'}: {why}") from None
        finally:
            connection.close()

    def _make_roles(self, statements: str) -> None:
        """The names that owners and privileges in the dump go by. Without what they may do here, which is nothing."""
        with self._server() as server:
            for statement in re.findall(r"^CREATE ROLE [^;\n]+;$", statements, re.MULTILINE):
                try:
                    server.execute(statement.encode())
                except errors.DuplicateObject:
                    continue

    def _ownership(self, name: str, archive: Path) -> list[str]:
        """Flags for what of the dump's owners and privileges can be had here.

        With every owner's role on the server, and this role a member of each (a superuser is), all comes back as it
        was. Otherwise everything belongs to the database's owner, as which pg_restore then works, and who may do
        what is left to that owner; this is how a restore goes that has no superuser, or none of the roles.
        """
        owners = sorted(pg_restore.owners(archive))
        # Asked inside: being its owner makes a role a member of pg_database_owner there.
        with self._inside(name) as connection:
            row = connection.execute(
                "SELECT count(*) FILTER (WHERE pg_has_role(r.oid, 'MEMBER')), pg_get_userbyid(min(d.datdba)) "
                "FROM pg_database d LEFT JOIN pg_roles r ON r.rolname = ANY(%s) WHERE d.datname = current_database()",
                (owners,),
            ).fetchone()
        assert row is not None  # there is always the database itself
        usable, owner = row
        if usable == len(owners):
            return []
        say(f"not all of the roles {', '.join(owners)} can be used here: {owner} will own all objects")
        return ["--no-owner", "--no-privileges", f"--role={owner}"]


def _archive_name(manifest: Manifest) -> str:
    """The dump's file, or the folder of a directory dump."""
    return manifest.dump[0].name.partition("/")[0].removesuffix(ENCRYPTED)


def _written(note: Mapping[str, Any]) -> str:
    return json.dumps({"runbook": note})
