"""The engine's own checks of a restored database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Error, sql
from psycopg.errors import DataCorrupted, IndexCorrupted

_SCHEMA = "runbook_amcheck"
# What can be checked: complete B-trees of this database, without other sessions' temporary ones.
_BTREES = """
SELECT c.oid, c.oid::regclass::text
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid
ORDER BY 2
"""


@dataclass(frozen=True)
class Integrity:
    """What the checks found. One that does not apply says why instead."""

    passed: bool
    findings: Mapping[str, Any]


@dataclass(frozen=True)
class Indexes:
    checked: int = 0
    broken: Sequence[str] = ()
    unavailable: str | None = None
    """Why nothing was checked."""

    def to_json(self) -> dict[str, Any]:
        if self.unavailable:
            return {"available": False, "why": self.unavailable}
        return {"available": True, "checked": self.checked, "broken": list(self.broken)}


def indexes(connection: Connection[Any]) -> Indexes:
    """amcheck over every b-tree; where the dump did not bring it, it is there for the check only."""
    try:
        schema = _extension(connection)
    except Error as error:
        return Indexes(unavailable=f"amcheck cannot be made: {error.diag.message_primary}")
    # Not also that every row is in it: the server built it from the rows a minute ago. Its order, which collations
    # and operators decide, is what can be wrong.
    check = sql.SQL("SELECT {}(index => %s::oid::regclass)").format(sql.Identifier(schema, "bt_index_check"))
    broken: list[str] = []
    btrees = connection.execute(_BTREES).fetchall()
    for oid, name in btrees:
        try:
            connection.execute(check, (oid,))
        except (IndexCorrupted, DataCorrupted) as error:
            broken.append(f"{name}: {error.diag.message_primary}")
    if schema == _SCHEMA:
        # The release migrates next, and should find its own database.
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(_SCHEMA)))
    return Indexes(len(btrees), broken)


def _extension(connection: Connection[Any]) -> str:
    """The schema that amcheck is in, after it was made if it was not there."""
    found = connection.execute(
        "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'amcheck'"
    ).fetchone()
    if found:
        return found[0]
    schema = sql.Identifier(_SCHEMA)
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        connection.execute(sql.SQL("CREATE EXTENSION amcheck SCHEMA {}").format(schema))
    return _SCHEMA


def page_checksums(connection: Connection[Any]) -> dict[str, Any]:
    """Whether the server sums up its pages, and what it found wrong since the database was made.

    Every row was read and written by now. pg_checksums itself wants the server stopped.
    """
    row = connection.execute(
        "SELECT current_setting('data_checksums') = 'on', checksum_failures FROM pg_stat_database "
        "WHERE datname = current_database()"
    ).fetchone()
    enabled, failures = row or (False, None)
    if not enabled:
        return {"available": False, "why": "the server was initialized without data checksums"}
    return {"available": True, "failures": failures or 0}
