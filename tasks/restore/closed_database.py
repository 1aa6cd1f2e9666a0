"""A PostgreSQL database that no other client is connected to, or can be.

What is found in it stays true until it is dropped.
"""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from tasks.backup.postgres import partition_roots, row_counts

_CHANGED = """
WITH changed AS (
  SELECT oid AS relation, relnamespace AS namespace, relname AS name FROM pg_class {}
  UNION SELECT c.oid, c.relnamespace, c.relname FROM pg_class c WHERE c.oid IN (SELECT attrelid FROM pg_attribute {}))
SELECT n.nspname || '.' || name, count(*) FROM changed JOIN pg_namespace n ON n.oid = namespace
WHERE n.nspname <> 'runbook' AND n.nspname !~ '^pg_' GROUP BY 1
"""
"""Tables, views, sequences and indexes that were made or altered."""


class ClosedPostgres:
    """Seen through the one connection that was begun before."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def rows(self) -> dict[str, int]:
        return row_counts(self._connection)

    def roots(self) -> dict[str, str]:
        return partition_roots(self._connection)

    def moment(self) -> int:
        # No other transaction is open here, so that no later one of this database has an earlier number.
        row = self._connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchall()[0]
        return int(row[0])

    def written_since(self, moment: int) -> dict[str, int]:
        connection = self._connection
        newer = sql.SQL(" WHERE age(xmin) <= age({}::xid)").format(sql.Literal(str(moment % (1 << 32))))
        found = row_counts(connection, newer)
        changed = sql.SQL(_CHANGED).format(newer, newer)
        definitions = {f"definition of {name}": rows for name, rows in connection.execute(changed).fetchall()}
        (may_read,) = connection.execute("SELECT has_table_privilege('pg_largeobject', 'SELECT')").fetchall()[0]
        blobs = sql.Identifier("pg_largeobject" if may_read else "pg_largeobject_metadata")
        (rows,) = connection.execute(sql.SQL("SELECT count(*) FROM {}{}").format(blobs, newer)).fetchall()[0]
        return {**found, **definitions, "large objects": rows}
