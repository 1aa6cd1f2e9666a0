"""A SQLite database by its URL: opening, counting its rows."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from tasks.backup.postgres import level_from
from tasks.errors import Refused, TaskError

SENTINEL_TABLE = "runbook_sentinel"
"""SQLite has no schemas; otherwise the same as runbook.sentinel."""

_URL = re.compile(r"(sqlite:(//)?|file:(//)?)(?P<path>[^?]+)(\?.*)?")
_BUSY_SECONDS = 60


def is_sqlite(url: str) -> bool:
    return url.startswith(("sqlite:", "file:"))


def path_of(url: str) -> Path:
    """The file that `sqlite:///path`, `file:/path` or Prisma's `file:./path` names."""
    found = _URL.fullmatch(url)
    if found is None:
        raise Refused(
            "environment_invalid", f"DATABASE_URL is {url!r}; it has to look like sqlite:///path or file:path"
        )
    return Path(re.sub("^/+", "/", unquote(found["path"])))


@contextmanager
def opened(path: Path, *, busy_seconds: float = _BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """A connection to a database that is there; in autocommit mode. It waits so many seconds for a lock."""
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_seconds)) as connection:
            connection.execute("PRAGMA schema_version")  # the first real look: connecting alone reads nothing
            yield connection
    except sqlite3.OperationalError as error:
        # The caller, which knows the disk, handles a full one.
        code = "disk_full" if error.sqlite_errorname == "SQLITE_FULL" else "database_unreachable"
        raise TaskError(code, f"the SQLite database {path} cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        raise TaskError(
            "database_damaged",
            f"the SQLite database {path} is damaged or not a database: {error}. `runbook restore start` brings a "
            "backup back",
        ) from None


def row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """`main.table` → rows. A virtual table's rows are in the tables behind it."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    ).fetchall()
    return {f"main.{name}": _count(connection, name) for (name,) in names}


def content_digest(connection: sqlite3.Connection) -> int:
    """A number that is another one when any row or definition of the application is."""
    digest = hashlib.sha256()
    defined = f"SELECT sql FROM sqlite_schema WHERE name NOT LIKE '%{SENTINEL_TABLE}%' ORDER BY name"  # noqa: S608
    digest.update(repr(connection.execute(defined).fetchall()).encode())
    for name in sorted(row_counts(connection)):
        table = name.removeprefix("main.")
        if not table.startswith(SENTINEL_TABLE):
            digest.update(f"{table}\0".encode())
            for row in connection.execute(f"SELECT * FROM {_quoted(table)}"):  # noqa: S608 - quoted
                digest.update(repr(row).encode())
    return int.from_bytes(digest.digest()[:8])


def schema_level(connection: sqlite3.Connection, query: str | None) -> int | None:
    """What SCHEMA_LEVEL_QUERY says; 0 while its table is missing."""
    if query is None:
        return None
    try:
        return level_from(connection.execute(query).fetchmany(2))
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return 0
        raise Refused("environment_invalid", f"SCHEMA_LEVEL_QUERY failed: {error}") from None


def _count(connection: sqlite3.Connection, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0]  # noqa: S608 - quoted


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
