"""Fills a new PostgreSQL database from an archive: as the role that restores, with owners, privileges and settings.

What that role may not do, and what the server has no role for, does not end the restore: it is tried again when all
else is there, and then named. In a test the server's superuser does it afterwards, so that the release finds all of
it, and it is named as what a restore in place would need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from psycopg import Connection, Error, errors, sql

from tasks.backup.manifest import Application, Manifest
from tasks.backup.postgres import Database, major
from tasks.errors import TaskError
from tasks.progress import say
from tasks.restore import pg_restore, statements
from tasks.restore.pg_restore import Entry, Failure, Programs
from tasks.restore.statements import Setting

_OPTIONS = "-c synchronous_commit=off -c default_transaction_read_only=off"
"""Nothing can be lost by the first: a restored database gets its name by a commit that waits for all before it. A role
may have the second for its applications."""
_OWNER = re.compile(r"^(ALTER .+ OWNER TO )(.+);$", re.MULTILINE)
_LONG = ("AGGREGATE ", "FUNCTION ", "OPERATOR ", "PROCEDURE ")
"""Entries whose names may be so long that pg_restore cuts the statement in its error off before OWNER TO."""
_IN_OURS = re.compile(r" (?:SCHEMA runbook|TABLE runbook\.\w+) ")
"""What backups make for themselves needs not to be named."""
_PRIVILEGES = ("ACL", "DEFAULT ACL")
_FOR_SUPERUSERS = ("EXTENSION", "EVENT TRIGGER", "PUBLICATION", "FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING",
                   "FOREIGN TABLE", "COMMENT", "SECURITY LABEL")  # fmt: skip
"""Entries that a role which owns the database may be refused, and without which its own tables are what they were. A
foreign table has its rows in another server, and needs an extension that is not trusted."""
_VIEW_ROWS = "MATERIALIZED VIEW DATA"
"""Made anew from what is restored. A query with functions that rely on a search_path fails: pg_restore has none."""
_OF_INDEX = re.compile(r"(?:COMMENT .+ )?INDEX ")
"""May be of such functions too; what is attached or said of an index that is not there yet fails with it."""
_IN_ONE_DATABASE = "EXTENSION - pg_cron"
"""This extension can be made only in the database that the server's configuration names."""
_OF_CRON = re.compile(
    r"^(?:EXTENSION - pg_cron|COMMENT - EXTENSION pg_cron|ACL - SCHEMA cron)\b|^(?:ACL|TABLE DATA|SEQUENCE SET) cron "
)
"""What belongs to it."""
_NOT_IN_A_COPY = ("SUBSCRIPTION", "COMMENT - SUBSCRIPTION")
"""A copy with it would share its replication slot with the original, and could not be dropped."""
_NOT_IN_A_TEST = ("USER MAPPING", "TABLE DATA cron job")
"""What acts outside the copy: passwords for other servers, and jobs."""
_SHOWN = 200


@dataclass(frozen=True)
class Loading:
    """One restore into one new database."""

    database: Database
    """The new one."""
    server: Callable[[], AbstractContextManager[Connection[Any]]]
    """Connects outside the database."""
    inside: Callable[[], AbstractContextManager[Connection[Any]]]
    """Connects inside, as the role that pg_restore connects as."""
    archive: Path
    roles: str
    """The script that makes the roles."""
    manifest: Manifest
    version: str
    """The server's."""
    jobs: int
    test: bool
    jobs_stay: bool = False
    """pg_cron runs in the live database beside it."""

    def run(self) -> tuple[str, ...]:
        """Restore; what could not be restored as the role that restores, with the reason, for people."""
        skipped = [one for one in self._entries if one.what.startswith(_NOT_IN_A_COPY)]
        named = [f"{one.what}: no copy gets it; make it anew" for one in skipped]
        skipped += [one for one in self._entries if self.test and one.what.startswith(_NOT_IN_A_TEST)]
        if self.jobs_stay and (of_cron := [one for one in self._entries if _OF_CRON.search(one.what)]):
            skipped += of_cron
            named.append("EXTENSION - pg_cron: the live database keeps it, with its jobs; no copy gets them")
        done = {one.id for one in skipped}
        role = self._become() if self.test else None
        named += self._rights_beside(role) if role else []
        early = self._extensions_for_superusers(role)
        if early:
            named += [f"{one.what}: only a superuser may make it" for one in early if one.what.startswith("EXTENSION")]
            self._restore(None, {one.id for one in early}, [])
            done |= {one.id for one in early}
        left: list[Failure] = []
        self._restore(role, {one.id for one in self._entries} - done, left)
        indexes = {one.entry for one in left if _lacks_name(one)}
        again = {
            one.entry: one
            for one in reversed(left)
            if one.what.startswith(_FOR_SUPERUSERS) and one.entry not in indexes
        }
        named += _grouped((one.what, one.message) for _, one in sorted(again.items()))
        if role and again:
            self._restore(None, set(again), [])
        named += self._retry([one for one in left if one.entry not in again], role)
        named += self._give_settings(role)
        self._index(indexes, role)
        named += self._refresh([one for one in left if one.what.startswith(_VIEW_ROWS)])
        for one in named:
            say(f"warning: {one}"[:_SHOWN])
        return tuple(named)

    @cached_property
    def _programs(self) -> Programs:
        return Programs(self.version, major(self.manifest.tools.get("pg_dump", self.manifest.server_version)))

    @cached_property
    def _entries(self) -> list[Entry]:
        return pg_restore.entries(self._programs, self.archive)

    @cached_property
    def _properties(self) -> str:
        """The script of the database itself: owner and settings, which only --create brings."""
        # Of the two entries that only --create restores, also with an empty list.
        with pg_restore.chosen([], ()) as flag:
            return pg_restore.read(self._programs, "--create", "--file=-", flag, str(self.archive))

    def _restore(self, role: str | None, ids: set[int], left: list[Failure]) -> None:
        newer = major(self._programs.version) > major(self.version)
        with self.server() as server:
            superuser = _is_superuser(server, role)
        failed_cron = False

        whats = {one.id: one.what for one in self._entries}

        def tolerated(refused: Failure) -> bool:
            nonlocal failed_cron
            failure = replace(refused, what=whats.get(refused.entry, ""))
            if newer and failure.statement.startswith("SET "):
                return True  # a setting that came with a later version
            is_cron = failure.what.startswith(_IN_ONE_DATABASE)
            failed_cron = failed_cron or is_cron
            if (
                is_cron
                or (failed_cron and "cron" in failure.statement)
                or _changes_owner(failure)
                or failure.what.startswith((*_PRIVILEGES, _VIEW_ROWS))
                or _lacks_name(failure)
                or (not superuser and failure.what.startswith(_FOR_SUPERUSERS))
            ):
                left.append(failure)
                return True
            return False

        environment = self.database.environment()
        environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {_OPTIONS}".strip()
        name = self.database.name.replace("\\", r"\\").replace("'", r"\'")
        with pg_restore.chosen(self._entries, ids) as flag:
            pg_restore.run(
                self._programs,
                [
                    "--no-password",
                    # Rows that go through the root of their partitions meet each other's locks.
                    f"--jobs={1 if self.manifest.via_root else self.jobs}",
                    flag,
                    *([f"--role={role}"] if role else []),
                    # A connection string, because a bare name with "=" in it is taken for one.
                    f"--dbname=dbname='{name}'",
                    str(self.archive),
                ],
                environment,
                f"backup {self.manifest.id} into {self.database.shown}",
                tolerated=tolerated,
            )

    def _become(self) -> str | None:
        """Make the backup's roles on a test's server; the one that restores in place run as, unless that is ours."""
        application = self.manifest.application
        with self.server() as server:
            _make_roles(server, self.roles)
            superuser = _is_superuser(server, None)
            another = "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolname <> current_user"
            if application is None or not superuser or not server.execute(another, (application.role,)).fetchone():
                return None
            owner = statements.owner(self._properties)
            usable = server.execute(
                "SELECT 1 FROM pg_roles r WHERE rolname = %s AND pg_has_role(%s, r.oid, 'MEMBER')",
                (owner, application.role),
            ).fetchone()
            server.execute(
                sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                    sql.Identifier(self.database.name), sql.Identifier(owner if usable and owner else application.role)
                )
            )
        return application.role

    def _rights_beside(self, role: str) -> list[str]:
        """What a restore in place needs beside the database, and the role has not."""
        owner = statements.owner(self._properties)
        with self.server() as server:
            superuser, creates, owns = server.execute(
                "SELECT r.rolsuper, r.rolcreatedb, o.oid IS NULL OR pg_has_role(r.oid, o.oid, 'MEMBER') "
                "FROM pg_roles r LEFT JOIN pg_roles o ON o.rolname = %s WHERE r.rolname = %s",
                (owner, role),
            ).fetchall()[0]
        needs: list[str] = []
        if not superuser and not creates:
            needs.append(f"role {role}: it may not make a database beside the live one; ALTER ROLE {role} CREATEDB")
        if not owns:
            needs.append(f"role {role}: it is no member of {owner}, which owns the database; GRANT {owner} TO {role}")
        return needs

    def _extensions_for_superusers(self, role: str | None) -> list[Entry]:
        """Extensions that `role` may not make, with all schemas, as they may be in one, and the right to use their
        wrappers of other servers, without which it could not make those."""
        if role is None:
            return []
        with self.server() as server:
            if _is_superuser(server, role):
                return []
            rows = server.execute(
                "SELECT DISTINCT name FROM pg_available_extension_versions WHERE superuser AND NOT trusted"
            ).fetchall()
        wanted = {f"EXTENSION - {name}" for (name,) in rows} - {_IN_ONE_DATABASE}
        found = [one for one in self._entries if one.what in wanted]
        beside = [one for one in self._entries if one.what.startswith(("SCHEMA ", "ACL - FOREIGN DATA WRAPPER "))]
        return [*beside, *found] if found else []

    def _retry(self, left: Sequence[Failure], role: str | None) -> list[str]:
        """Owners and privileges one by one, now that all schemas and their privileges are there; what still fails.

        In a test, what fails as the role is given by the superuser, and named all the same.
        """
        failed: list[tuple[str, str]] = []
        owners = {one.entry for one in left if _changes_owner(one)}
        scripts = [of[0] for of in _OWNER.finditer(self._script(owners))]
        privileges = {one.entry for one in left if one.what.startswith(_PRIVILEGES)}
        beginnings = ("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ")
        scripts += [one for one in statements.split(self._script(privileges)) if one.startswith(beginnings)]
        if not scripts:
            return []
        with self.inside() as connection:
            for statement in scripts:
                try:
                    _execute(connection, statement, role)
                except Error as error:
                    if not _IN_OURS.search(statement):
                        failed.append((statement.rstrip(";"), error.diag.message_primary or str(error)))
                    self._fall_back(connection, statement, role)
        return _grouped(failed)

    def _index(self, ids: set[int], role: str | None) -> None:
        """Make indexes along the application's search_path. What fails now ends the restore: a unique index decides
        which rows there may be."""
        application = self.manifest.application
        beginnings = ("CREATE ", "ALTER ", "COMMENT ")
        found = [one for one in statements.split(self._script(ids)) if one.startswith(beginnings)]
        if not found:
            return
        with self.inside() as connection:
            if application:
                connection.execute("SELECT set_config('search_path', %s, false)", (application.search_path,))
            for statement in found:
                try:
                    _execute(connection, statement, role)
                except Error as error:
                    raise TaskError(
                        "restore_failed",
                        f"backup {self.manifest.id} into {self.database.shown}: {statement[:_SHOWN]}: "
                        f"{error.diag.message_primary}",
                    ) from error

    def _refresh(self, left: Sequence[Failure]) -> list[str]:
        """Materialized views again, along the application's search_path; what still has no rows."""
        failed: list[tuple[str, str]] = []
        application = self.manifest.application
        if left:
            with self.inside() as connection:
                if application:
                    connection.execute("SELECT set_config('search_path', %s, false)", (application.search_path,))
                for one in left:
                    try:
                        connection.execute(one.statement.encode())
                    except Error as error:
                        failed.append((one.what, error.diag.message_primary or str(error)))
        return _grouped(failed)

    def _script(self, ids: set[int]) -> str:
        if not ids:
            return ""
        with pg_restore.chosen(self._entries, ids) as flag:
            return pg_restore.read(self._programs, "--file=-", "--schema-only", flag, str(self.archive))

    def _fall_back(self, connection: Connection[Any], statement: str, role: str | None) -> None:
        """As the superuser of a test's server; elsewhere what has another owner is the database's owner's."""
        try:
            if role:
                connection.execute(statement.encode())
            elif of := _OWNER.fullmatch(statement):
                owner = connection.execute(
                    "SELECT quote_ident(pg_get_userbyid(datdba)) FROM pg_database WHERE datname = current_database()"
                ).fetchone()[0]  # type: ignore[index] - there is always the database itself
                connection.execute(f"{of[1]}{owner}".encode())
        except Error as error:
            say(f"warning: {statement[:_SHOWN]}: {error.diag.message_primary}")

    def _give_settings(self, role: str | None) -> list[str]:
        """The settings of the backup's database and of its roles in it."""
        ours = statements.settings(self._properties)
        of_roles = [one for one in statements.settings(self.roles) if one.everywhere]
        failed: list[tuple[str, str]] = []
        database = sql.Identifier(self.database.name)
        with self.server() as server:
            for one in [*ours, *of_roles]:
                if one.everywhere and _has_everywhere(server, one):
                    continue
                whose = sql.SQL("ALTER DATABASE {}").format(database)
                if one.role is not None:
                    whose = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(one.role), database)
                try:
                    server.execute(whose + sql.SQL(" SET ") + sql.SQL(one.value))  # type: ignore[arg-type] - pg_dump's own
                except Error as error:
                    of = f" of role {one.role}" if one.role else ""
                    failed.append((f"setting {one.name}{of}", error.diag.message_primary or str(error)))
            if self.test and self.manifest.application:
                self._connect_as(server, self.manifest.application, [*of_roles, *ours], role)
        return _grouped(failed)

    def _connect_as(
        self, server: Connection[Any], application: Application, found: Iterable[Setting], role: str | None
    ) -> None:
        """Give the login of a test what the application's has: its settings, role and search_path."""
        login = sql.Identifier(server.info.user)
        whose = sql.SQL("ALTER ROLE {} IN DATABASE {} SET ").format(login, sql.Identifier(self.database.name))
        for one in found:
            if one.role == application.login:
                try:
                    server.execute(whose + sql.SQL(one.value))  # type: ignore[arg-type] - pg_dump's own
                except Error as error:
                    say(f"warning: setting {one.name} of {application.login}: {error.diag.message_primary}")
        with server.transaction():
            server.execute("SELECT set_config('search_path', %s, true)", (application.search_path,))
            server.execute(whose + sql.SQL("search_path FROM CURRENT"))
        if role:
            server.execute(whose + sql.SQL("role TO {}").format(sql.Literal(role)))


def _lacks_name(failure: Failure) -> bool:
    """Whether an index failed for a name that may be found along the application's search_path."""
    return bool(_OF_INDEX.match(failure.what)) and failure.message.endswith("does not exist")


def _changes_owner(failure: Failure) -> bool:
    if not failure.statement.startswith("ALTER "):
        return False
    return " OWNER TO " in failure.statement or (failure.statement.endswith("...") and failure.what.startswith(_LONG))


def _make_roles(server: Connection[Any], script: str) -> None:
    """The backup's roles, as they were but without passwords. Roles that the server has already stay as they are."""
    made: set[str] = set()
    later: list[str] = []
    for statement in statements.split(script):
        if role := statements.created_role(statement):
            try:
                server.execute(statement.encode())
                made.add(role)
            except errors.DuplicateObject:
                continue
        elif statement.startswith(("ALTER ROLE ", "GRANT ")) and " SET " not in statement:
            later.append(statement)
    for statement in later:
        subject = statements.changed_role(statement)
        if subject in made:
            try:
                server.execute(re.sub(r" GRANTED BY \S.*$", "", statement).encode())
            except Error as error:
                say(f"warning: {statement[:_SHOWN]}: {error.diag.message_primary}")


def _is_superuser(server: Connection[Any], role: str | None) -> bool:
    row = server.execute("SELECT rolsuper FROM pg_roles WHERE rolname = coalesce(%s, current_user)", (role,)).fetchone()
    return bool(row and row[0])


def _has_everywhere(server: Connection[Any], setting: Setting) -> bool:
    """Whether the server's role has this setting anyway, with whatever value: it is the server's own then."""
    row = server.execute(
        "SELECT 1 FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS one "
        "WHERE s.setdatabase = 0 AND r.rolname = %s AND split_part(one, '=', 1) = %s",
        (setting.role, setting.name),
    ).fetchone()
    return row is not None


def _execute(connection: Connection[Any], statement: str, role: str | None) -> None:
    with connection.transaction():
        if role:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        connection.execute(statement.encode())


def _grouped(failed: Iterable[tuple[str, str]]) -> list[str]:
    """One line for each reason, with what it concerns."""
    by_reason: dict[str, list[str]] = {}
    for what, why in failed:
        by_reason.setdefault(why, []).append(what)
    return [
        f"{what[0]}{f' and {len(what) - 1} more' if len(what) > 1 else ''}: {why}" for why, what in by_reason.items()
    ]
