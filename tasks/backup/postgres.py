"""A PostgreSQL database by its URL: connecting, its programs, counting its rows."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from psycopg import Connection, pq, sql
from psycopg.errors import InsufficientPrivilege, UndefinedTable

from tasks.backup.connection import for_libpq
from tasks.backup.pooler import require_direct
from tasks.connection_url import PAST_A_POOLER, joined, parse_postgres
from tasks.errors import Refused, TaskError

_PASSING = ("Connection refused", "No route to host", "Temporary failure in name resolution")
"""A restarting server refuses connections, and so does the network of a new pod, those to DNS too: tried again."""
_CONNECT_SECONDS = 10
# psycopg also logs that a lost connection cannot be rolled back; the error itself is raised and reported.
logging.getLogger("psycopg").setLevel(logging.ERROR)
_RETRY_SECONDS = 0.2
_VERSIONS = Path("/usr/lib/postgresql")

_SETTINGS = """
SELECT set_config(name, value, false)
FROM (VALUES ('default_transaction_read_only', 'off'), ('statement_timeout', '0'), ('lock_timeout', '0'),
             ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),
             ('transaction_timeout', '0')) AS ours (name, value)
WHERE current_setting(name, true) IS NOT NULL
"""
"""Ours instead of those of database and role, which are for the application's requests: a backup takes as long as it
takes."""

# Tables whose rows are in a dump, each with the root of its partitions; an extension's tables come with the extension.
_TABLES = """
SELECT n.nspname, c.relname, rn.nspname, r.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
     JOIN pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Database:
    """Where a database is. The password is in no argument list and no message: programs get it by their environment."""

    url: str

    @classmethod
    def at(cls, url: str, variable: str = "DATABASE_URL") -> Database:
        """The database of a URL as any client writes it; `environment_invalid` names variable, parameter and remedy."""
        return cls(for_libpq(url, variable))

    @cached_property
    def _options(self) -> dict[str, pq.ConninfoOption]:
        options = {option.keyword.decode(): option for option in pq.Conninfo.parse(self.url.encode())}
        return {keyword: option for keyword, option in options.items() if option.val is not None}

    def option(self, keyword: str) -> str | None:
        """What the URL says of one of libpq's keywords."""
        found = self._options.get(keyword)
        return found.val.decode() if found and found.val is not None else None

    @property
    def name(self) -> str:
        return self.option("dbname") or ""

    @property
    def shown(self) -> str:
        """For people: no password."""
        host = self.option("host") or self.option("hostaddr") or "local socket"
        return f"{self.name} on {host}:{self.option('port') or 5432}"

    @property
    def without_password(self) -> str:
        """The same URL without its password."""
        parts = urlsplit(self.url)
        user = f"{quote(self.option('user') or '', safe='')}@" if self.option("user") else ""
        query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] != "password"], quote_via=quote)
        return joined(parts._replace(netloc=user + parts.netloc.rpartition("@")[2], query=query))

    def named(self, name: str) -> Database:
        """Another database of the same server."""
        parts = urlsplit(self.url)
        query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] != "dbname"], quote_via=quote)
        return Database(joined(parts._replace(path=f"/{quote(name, safe='')}", query=query)))

    def environment(self) -> dict[str, str]:
        """For programs of PostgreSQL: everything of the URL as libpq's variables, and none of another database's."""
        ours = {
            option.envvar.decode(): option.val.decode()
            for option in self._options.values()
            if option.envvar and option.val is not None
        }
        inherited = {name: value for name, value in os.environ.items() if name not in _libpq_variables()}
        return {**inherited, "PGCONNECT_TIMEOUT": str(_CONNECT_SECONDS), **ours}

    def connect(self, application: str = "runbook", *, unlimited: bool = False, **options: Any) -> Connection[Any]:
        """A connection in autocommit mode; `database_unreachable` says why there is none, `database_pooled` that it
        shares sessions of the server with others.

        `unlimited`: without the limits of time and the default of read-only transactions that database or role have
        for the application.
        """
        given = {"connect_timeout": _CONNECT_SECONDS, "keepalives_idle": 30, "application_name": application}
        given = {key: value for key, value in given.items() if self.option(key) is None}
        # Else of an SQL_ASCII database all text would be bytes, and of others what the URL says.
        given["client_encoding"] = "UTF8"

        def begin() -> Connection[Any]:
            return psycopg.connect(self.url, autocommit=True, **given, **options)

        deadline = time.monotonic() + int(self.option("connect_timeout") or _CONNECT_SECONDS)
        while True:
            try:
                connection = begin()
                break
            except psycopg.OperationalError as error:
                if not any(words in str(error) for words in _PASSING) or time.monotonic() > deadline:
                    raise self._unreachable(error) from None
            time.sleep(_RETRY_SECONDS)
        try:
            require_direct(connection, begin, self.shown)
            connection.execute("SET DateStyle = ISO")  # the only one of which psycopg reads times
            if unlimited:
                connection.execute(_SETTINGS)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.OperationalError):
                raise self._unreachable(error) from None
            raise
        return connection

    def _unreachable(self, error: psycopg.Error) -> TaskError:
        why = " ".join(str(error).split())
        # So says PgBouncer of `options`, which a schema in the URL becomes.
        remedy = f". {PAST_A_POOLER}" if "unsupported startup parameter" in why else ""
        return TaskError("database_unreachable", f"{self.shown} cannot be reached: {why}{remedy}")


def _libpq_variables() -> set[str]:
    return {option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}


def url_schema(url: str) -> str | None:
    """The schema that a URL names (Prisma's `schema`), where such an application looks for its tables."""
    return parse_postgres(url).schema


def program(name: str, server: str | None = None, *, least: int = 0) -> str:
    """Where pg_dump, pg_restore … is: of the server's own major version or the next above, else the newest.

    A newer program writes settings that an older server does not know. Debian keeps each major version in a folder
    of its own. `least` is the oldest version that can read a dump.
    """
    found = _find_programs(name)
    if not found:
        raise TaskError(
            "program_missing", f"{name} is neither on PATH nor below {_VERSIONS}: install postgresql-client"
        )
    wanted = max(major(server) if server else max(found), least)
    return found[min((version for version in found if version >= wanted), default=max(found))]


def _find_programs(name: str) -> dict[int, str]:
    """Major version → path."""
    found = {int(float(folder.parent.name)): str(folder / name) for folder in _VERSIONS.glob("[0-9]*/bin")}
    found = {version: path for version, path in found.items() if os.access(path, os.X_OK)}
    if other := shutil.which(name):
        # Debian's wrapper for all versions is none of its own: it starts one of the above.
        found.setdefault(major(_version_of(other)), other)
    return found


@cache
def _version_of(path: str) -> str:
    """`15.14` from `pg_dump (PostgreSQL) 15.14 (Debian 15.14-1)`."""
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\) (\d+(?:\.\d+|\w+\d+)?)", output)[0]


def program_version(name: str, server: str | None = None, *, least: int = 0) -> str:
    """The version of what `program` finds."""
    return _version_of(program(name, server, least=least))


def major(version: str) -> int:
    return int(re.match(r"\d+", version)[0])  # type: ignore[index] - every version begins with a number


def server_version(connection: Connection[Any]) -> str:
    """`15.14`."""
    return connection.info.parameter_status("server_version").split()[0]  # type: ignore[union-attr] - always reported


def system_identifier(connection: Connection[Any]) -> str | None:
    """What distinguishes this server from every other; None where the role may not know it."""
    try:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except InsufficientPrivilege:
        return None
    return row[0] if row else None


def tables(connection: Connection[Any]) -> list[tuple[str, str]]:
    """Schema and name of every table whose rows a dump has."""
    return [(schema, table) for schema, table, *_ in connection.execute(_TABLES).fetchall()]


def row_counts(connection: Connection[Any], which: sql.Composable | None = None) -> dict[str, int]:
    """`schema.table` → rows, as the connection's transaction sees them; partitions count for their root.

    Which partition a row is in is not the same after a sound restore: an enum's hash comes from object ids, the order
    of a collation from a library of the server.
    """
    # As pg_dump does: rather an error than only the rows that a policy lets this role see.
    connection.execute("SET row_security = off")
    counts: dict[str, int] = {}
    for schema, table, root_schema, root in connection.execute(_TABLES).fetchall():
        name = sql.Identifier(schema, table)
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM ONLY {}{}").format(name, which or sql.SQL(""))
        ).fetchone()
        key = f"{root_schema}.{root}"
        counts[key] = counts.get(key, 0) + (row[0] if row else 0)
    return counts


def partition_roots(connection: Connection[Any]) -> dict[str, str]:
    """Partition → the root that `row_counts` counts it for."""
    found = connection.execute(_TABLES).fetchall()
    return {f"{row[0]}.{row[1]}": f"{row[2]}.{row[3]}" for row in found}


def schema_level(connection: Connection[Any], query: str | None) -> int | None:
    """What SCHEMA_LEVEL_QUERY says; 0 while its table is missing, as in a database before its first migration."""
    if query is None:
        return None
    try:
        with connection.transaction():
            rows = connection.execute(query.encode()).fetchmany(2)
    except UndefinedTable:
        return 0
    except psycopg.Error as error:
        raise Refused("environment_invalid", f"SCHEMA_LEVEL_QUERY failed: {str(error).strip()}") from None
    return level_from(rows)


def level_from(rows: Sequence[Sequence[Any]]) -> int:
    """The one integer that SCHEMA_LEVEL_QUERY has to give; NULL, as max() of no rows is, counts as 0."""
    if len(rows) == 1 and len(rows[0]) == 1:
        value = rows[0][0]
        if value is None:
            return 0
        if str(value).isdigit():
            return int(value)
    raise Refused("environment_invalid", "SCHEMA_LEVEL_QUERY must return one row with one integer")


def holds_anything(counts: Mapping[str, int]) -> bool:
    """Whether there are tables besides the ones that backups make."""
    return any(not name.startswith("runbook.") for name in counts)
