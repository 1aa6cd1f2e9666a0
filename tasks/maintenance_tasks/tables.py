"""`analyze` and `vacuum-analyze`: table by table, so that a lock is held and waited for as short as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import Connection, sql

from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say

# Leaves of partitions are vacuumed; their root has statistics of its own, and no autovacuum analyzes it.
_TABLES = """
SELECT n.nspname, c.relname, c.relkind = 'p', pg_has_role(c.relowner, 'USAGE'),
       coalesce(pg_stat_get_dead_tuples(c.oid), 0), coalesce(pg_stat_get_live_tuples(c.oid), 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY pg_relation_size(c.oid), 1, 2
"""
_SHOWN = 20


def analyze(context: Context) -> Outcome:
    """Statistics for the planner of every table that this role owns."""
    return _each_table(context, "ANALYZE (SKIP_LOCKED) {}", roots=True)


def vacuum_analyze(context: Context) -> Outcome:
    """Dead rows of every table that this role owns are made free for new ones."""
    return _each_table(context, "VACUUM (ANALYZE, SKIP_LOCKED) {}", roots=False)


def _each_table(context: Context, statement: LiteralString, *, roots: bool) -> Outcome:
    with context.connected() as connection:
        warned: list[str] = []
        connection.add_notice_handler(lambda notice: warned.append(notice.message_primary or ""))
        tables = context.rows(connection, _TABLES)
        left: list[str] = []
        done, dead = 0, 0
        for schema, name, is_root, ours, dead_rows, _ in tables:
            if not ours:
                left.append(f"{schema}.{name}: of another owner")
                continue
            if is_root and not roots:
                continue
            warned.clear()
            table = sql.Identifier(schema, name)
            if not context.execute(connection, sql.SQL(statement).format(table)):
                left.append(f"{schema}.{name}: no lock within {context.plan.lock_timeout_seconds:.0f} s")
            elif warned:
                # SKIP_LOCKED and missing rights are warnings.
                left.append(f"{schema}.{name}: {warned[-1]}")
            else:
                done += 1
                dead += dead_rows
        after = _dead_rows(context, connection)
    say(f"  {done} tables" + (f", {len(left)} left out" if left else ""))
    measures = {"tables done": float(done), "tables left out": float(len(left))}
    if not roots:
        measures["dead rows before"] = float(dead)
        measures["dead rows after"] = float(after)
    return Outcome(notes=_cut(left), measures=measures)


def _dead_rows(context: Context, connection: Connection[Any]) -> int:
    return sum(row[4] for row in context.rows(connection, _TABLES) if row[3])


def _cut(lines: Sequence[str]) -> list[str]:
    return [*lines[:_SHOWN], *([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])]
