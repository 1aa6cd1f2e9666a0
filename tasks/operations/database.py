"""What a PostgreSQL server is busy with: slow queries, sessions that wait for others, bloat. Only reads.

Query texts are shown without their values: a value may be a secret or a person's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from tasks.backup.postgres import Database, url_schema
from tasks.errors import TaskError

SHOWN = 10
"""Rows of each part."""
_WIDTH = 240
_LITERAL = re.compile(
    r"\$([a-z_]*)\$.*?\$\1\$"  # dollar quotes
    r"|[eEbBxXnN]?'(?:[^'\\]|''|\\.)*(?:'|$)"  # strings, one that was cut too
    r"|(?<![\w$.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b",
    re.DOTALL,
)
_COMMENT = re.compile(r"/\*.*?(?:\*/|$)|--[^\n]*", re.DOTALL)
_HIDDEN = "<insufficient privilege>"

_STATEMENTS = """
SELECT query, calls, mean_exec_time AS mean_ms, max_exec_time AS slowest_ms, total_exec_time AS total_ms,
       rows::float / greatest(calls, 1) AS rows, shared_blks_read AS blocks_read
FROM {statements}
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mean_exec_time >= %(least)s
ORDER BY total_exec_time DESC LIMIT %(shown)s
"""
_ACTIVITY = """
SELECT pid, usename AS role, application_name AS application, state, wait_event_type AS waits_for,
       extract(epoch FROM clock_timestamp() - coalesce(query_start, xact_start)) AS seconds,
       extract(epoch FROM clock_timestamp() - xact_start) AS transaction_seconds, query
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND coalesce(backend_type, 'client backend') = 'client backend' -- null: its role is not shown
  AND (state <> 'idle' OR query = '<insufficient privilege>')
ORDER BY xact_start NULLS LAST LIMIT %(shown)s
"""
_LOCKS = """
SELECT waiting.pid, waiting.usename AS role, waiting.application_name AS application,
       extract(epoch FROM clock_timestamp() - waiting.state_change) AS seconds, waiting.query,
       lock.mode, CASE WHEN lock.relation IS NULL THEN lock.locktype ELSE lock.relation::regclass::text END AS on_what,
       blocking.pid AS blocked_by, blocking.usename AS blocking_role, blocking.application_name AS blocking_application,
       blocking.state AS blocking_state, blocking.query AS blocking_query,
       extract(epoch FROM clock_timestamp() - blocking.xact_start) AS blocking_seconds
FROM pg_stat_activity waiting
     CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker(pid)
     LEFT JOIN pg_stat_activity blocking ON blocking.pid = blocker.pid
     LEFT JOIN LATERAL (SELECT * FROM pg_locks WHERE pg_locks.pid = waiting.pid AND NOT granted LIMIT 1) lock ON true
WHERE waiting.datname = current_database() AND waiting.wait_event_type = 'Lock'
ORDER BY seconds DESC LIMIT %(shown)s
"""
_BLOAT = """
SELECT format('%%I.%%I', schemaname, relname) AS "table", n_live_tup AS live, n_dead_tup AS dead,
       100.0 * n_dead_tup / greatest(n_live_tup + n_dead_tup, 1) AS dead_percent,
       pg_total_relation_size(relid) AS bytes,
       greatest(last_vacuum, last_autovacuum)::text AS last_vacuum,
       greatest(last_analyze, last_autoanalyze)::text AS last_analyze
FROM pg_stat_user_tables
WHERE n_dead_tup >= 1000 OR n_mod_since_analyze >= 1000
ORDER BY n_dead_tup DESC LIMIT %(shown)s
"""
_SCANS = """
SELECT format('%%I.%%I', schemaname, relname) AS "table", seq_scan AS scans, seq_tup_read / seq_scan AS rows_per_scan
FROM pg_stat_user_tables WHERE seq_scan > 0 AND seq_tup_read / seq_scan >= 10000
ORDER BY seq_tup_read DESC LIMIT %(shown)s
"""
_INVALID = """
SELECT indexrelid::regclass::text AS index, indrelid::regclass::text AS "table"
FROM pg_index WHERE NOT indisvalid ORDER BY 1 LIMIT %(shown)s
"""
_EXTENSION = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pg_stat_statements'
"""


@contextmanager
def reading(url: str, seconds: int) -> Iterator[Connection[Any]]:
    """A read-only transaction on the application's database, whose statements end after some seconds."""
    with Database.at(url).connect("runbook-debug", row_factory=dict_row) as connection:
        connection.execute("BEGIN READ ONLY")
        for name, value in (("statement_timeout", f"{seconds}s"), ("lock_timeout", "2s")):
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        if schema := url_schema(url):
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
        try:
            yield connection
        except psycopg.errors.QueryCanceled:
            why = f"the query was cancelled after {seconds} s (runbook:operations.querySeconds)"
            raise TaskError("too_slow", why) from None
        finally:
            if not connection.broken:
                connection.execute("ROLLBACK")


def examine(url: str, *, least_ms: int, seconds: int) -> dict[str, Any]:
    """All parts; one that could not be read is in `notes`, with the reason and the remedy."""
    notes: list[str] = []
    with reading(url, seconds) as connection:
        given = {"shown": SHOWN, "least": least_ms}
        activity = _rows(connection, _ACTIVITY, given)
        if any(row["query"] == _HIDDEN for row in activity):
            role = _one(connection, "SELECT current_user AS role")["role"]
            grant = f"GRANT pg_read_all_stats TO {role}"
            notes.append(f"Queries of other roles are not shown to {role}: run `{grant}` as an administrator.")
        return {
            "server": _one(connection, "SELECT current_setting('server_version') AS version")["version"],
            "slowerThanMs": least_ms,
            "statements": _statements(connection, given, notes),
            "activity": [_shown(row, "query") for row in activity if row["query"] != _HIDDEN],
            "locks": [_shown(row, "query", "blocking_query") for row in _rows(connection, _LOCKS, given)],
            "bloat": [_shown(row) for row in _rows(connection, _BLOAT, given)],
            "scans": [_shown(row) for row in _rows(connection, _SCANS, given)],
            "invalidIndexes": _rows(connection, _INVALID, given),
            "notes": notes,
        }


def _statements(connection: Connection[Any], given: Mapping[str, Any], notes: list[str]) -> list[dict[str, Any]] | None:
    """From pg_stat_statements; None where there are none."""
    found = connection.execute(_EXTENSION).fetchone()
    if not found:
        notes.append(
            "There is no extension pg_stat_statements in this database, so only queries that run now are known: add it "
            "to shared_preload_libraries, restart the server, then `CREATE EXTENSION pg_stat_statements`."
        )
        return None
    name = sql.Identifier(found["nspname"], "pg_stat_statements")
    query = sql.SQL(_STATEMENTS).format(statements=name)  # type: ignore[arg-type]
    try:
        with connection.transaction():
            rows = connection.execute(query, given).fetchall()
    except psycopg.Error as error:
        why = str(error.diag.message_primary or type(error).__name__)
        notes.append(f"pg_stat_statements cannot be read: {why}.")
        return None
    return [_shown(row, "query") for row in rows if row["query"] and row["query"] != _HIDDEN]


def _rows(connection: Connection[Any], query: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    return connection.execute(query.encode(), given).fetchall()


def _one(connection: Connection[Any], query: str) -> Mapping[str, Any]:
    return connection.execute(query.encode()).fetchone() or {}


def _shown(row: Mapping[str, Any], *queries: str) -> dict[str, Any]:
    """Numbers with one decimal, queries on one line without values."""
    made = {key: _number(value) for key, value in row.items()}
    for key in queries:
        made[key] = without_values(str(row[key])) if row[key] else None
    return made


def _number(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    return round(float(value), 1)


def without_values(query: str) -> str:
    """The query on one line, with `?` in place of every literal and without comments."""
    bare = _LITERAL.sub("?", _COMMENT.sub(" ", query))
    line = " ".join(bare.split())
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]} …"


def summarise(found: Mapping[str, Any]) -> str:
    """One line for a terminal."""
    statements: Sequence[Any] = found["statements"] or ()
    return (
        f"{len(statements)} slow statements, {len(found['activity'])} sessions, {len(found['locks'])} waiting for a "
        f"lock, {len(found['bloat'])} tables to be vacuumed"
    )
