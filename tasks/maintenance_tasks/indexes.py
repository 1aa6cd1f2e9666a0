"""`reindex`: bloated indexes are rebuilt concurrently, after what a killed rebuild left is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql
from psycopg.errors import ObjectInUse, UndefinedObject, UndefinedTable

from tasks.errors import TaskError
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say, size

# Invalid, and not being built now. REINDEX names the new index `…_ccnew`, the old one `…_ccold`, or with a number.
_INVALID = """
SELECT n.nspname, i.relname, i.relname ~ '_cc(new|old)[0-9]*$', pg_has_role(i.relowner, 'USAGE')
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_namespace n ON n.oid = i.relnamespace
WHERE NOT x.indisvalid AND i.relkind = 'i' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid)
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.oid)
ORDER BY 1, 2
"""

_PGSTATTUPLE = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pgstattuple' AND has_function_privilege(format('%I.pgstatindex(regclass)', n.nspname), 'EXECUTE')
"""

# A leaf entry: its pointer (4), its header (8; with a null bitmap 16) and its values, aligned to 8. A page: less its
# header (24) and the special space (16), as full as its fillfactor says. Equal values share an entry since version 13,
# so that the estimate is too high, and less is rebuilt.
_ESTIMATED = """
SELECT n.nspname, i.relname, i.oid::bigint, pg_relation_size(i.oid)::bigint AS bytes,
       ceil(i.reltuples * (4 + 8 * ceil((8 + 8 * bool_or(s.null_frac > 0)::int + sum(s.avg_width)) / 8.0))
            / ((current_setting('block_size')::int - 40) * coalesce(
                 (SELECT option_value::int FROM pg_options_to_table(i.reloptions) WHERE option_name = 'fillfactor'), 90
               ) / 100.0) + 1) * current_setting('block_size')::bigint AS needed,
       bool_and(s.avg_width IS NOT NULL) AND i.reltuples >= 0 AS known
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am am ON am.oid = i.relam AND am.amname = 'btree'
JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = i.relnamespace
JOIN pg_attribute a ON a.attrelid = i.oid AND a.attnum > 0
LEFT JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = x.indkey[a.attnum - 1] AND c.attnum > 0
LEFT JOIN LATERAL (
  SELECT s.avg_width, s.null_frac FROM pg_stats s
  WHERE s.schemaname = n.nspname AND s.tablename = CASE WHEN c.attname IS NULL THEN i.relname ELSE t.relname END
    AND s.attname = coalesce(c.attname, a.attname)
  ORDER BY s.inherited LIMIT 1
) s ON true
WHERE i.relkind = 'i' AND x.indisvalid AND x.indisready AND t.relpersistence = 'p' AND pg_has_role(i.relowner, 'USAGE')
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_constraint e WHERE e.conindid = i.oid AND e.contype = 'x')
  AND pg_relation_size(i.oid) >= %s
GROUP BY n.nspname, i.oid, i.relname, i.reltuples, i.reloptions
ORDER BY bytes DESC
"""


@dataclass(frozen=True)
class _Index:
    schema: str
    name: str
    oid: int
    bytes: int
    free: float
    """Bytes that a rebuild would free."""

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


def reindex(context: Context) -> Outcome:
    """Rebuild what is bloated, one index after another; the largest first."""
    notes: list[str] = []
    with context.connected() as connection:
        # What is done concurrently waits for transactions as for locks, and no request waits behind it.
        connection.execute("SET lock_timeout = 0")
        dropped = _drop_leftovers(context, connection, notes)
        exact = _schema_of_pgstattuple(context, connection)
        if exact is None:
            notes.append("bloat is estimated: CREATE EXTENSION pgstattuple lets it be measured")
        rebuilt, freed = 0, 0
        for index in _find_bloated(context, connection, exact, notes):
            before = index.bytes
            say(f"  {index.shown}: {size(before)}, of which about {size(round(index.free))} are free")
            if after := _rebuild(context, connection, index, notes):
                rebuilt += 1
                freed += before - after
                notes.append(f"{index.shown}: rebuilt, {size(before)} before, {size(after)} now")
        _drop_leftovers(context, connection, notes)
    return Outcome(
        notes=notes,
        measures={"indexes rebuilt": float(rebuilt), "bytes freed": float(freed), "leftovers removed": float(dropped)},
    )


def _drop_leftovers(context: Context, connection: Connection[Any], notes: list[str]) -> int:
    dropped = 0
    for schema, name, leftover, ours in context.rows(connection, _INVALID):
        shown = f"{schema}.{name}"
        if not (leftover and ours):
            if (line := f"{shown} is invalid and unused: drop it, or build it again") not in notes:
                notes.append(line)
            continue
        try:
            gone = context.execute(
                connection, sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(schema, name))
            )
        except ObjectInUse:
            gone = False
        what = "removed" if gone else "not removed, because its table was in use"
        notes.append(f"{shown}: the rest of a rebuild that was stopped, {what}")
        dropped += gone
    return dropped


def _schema_of_pgstattuple(context: Context, connection: Connection[Any]) -> str | None:
    try:
        found = context.rows(connection, _PGSTATTUPLE)
    except (UndefinedObject, UndefinedTable):
        return None
    return found[0][0] if found else None


def _find_bloated(context: Context, connection: Connection[Any], exact: str | None, notes: list[str]) -> list[_Index]:
    found: list[_Index] = []
    unknown = 0
    for schema, name, oid, total, needed, known in context.rows(connection, _ESTIMATED, context.plan.bloat_bytes):
        if exact is not None:
            free = _measure_free(context, connection, exact, oid, total)
        elif known:
            free = float(max(0, total - needed))
        else:
            unknown += 1
            continue
        if free >= context.plan.bloat_bytes and free >= context.plan.bloat_ratio * total:
            found.append(_Index(schema, name, oid, total, free))
    if unknown:
        notes.append(f"{unknown} indexes have no statistics yet: not judged")
    return found


def _measure_free(context: Context, connection: Connection[Any], schema: str, oid: int, total: int) -> float:
    """By reading the whole index: empty and deleted pages, and what leaf pages have below their fillfactor of 90 %."""
    query = sql.SQL(
        "SELECT avg_leaf_density, leaf_pages, empty_pages + deleted_pages FROM {}.pgstatindex(%s::regclass)"
    )
    context.require_going()
    row = connection.execute(query.format(sql.Identifier(schema)), (str(oid),)).fetchone()
    if row is None or not row[1]:
        return 0.0
    density, leaves, unused = float(row[0]), int(row[1]), int(row[2])
    page = total / (leaves + unused + 1)
    return min(total, page * (unused + leaves * max(0.0, 1 - density / 90)))


def _rebuild(context: Context, connection: Connection[Any], index: _Index, notes: list[str]) -> int | None:
    """Its size afterwards; None if it could not be rebuilt."""
    statement = sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(index.schema, index.name))
    try:
        if not context.execute(connection, statement):
            notes.append(f"{index.shown}: not rebuilt, because no lock was free in time")
            return None
    except UndefinedObject:
        return None  # dropped since it was listed
    found = context.rows(
        connection,
        "SELECT pg_relation_size(to_regclass(%s))::bigint",
        sql.Identifier(index.schema, index.name).as_string(connection),
    )
    if found[0][0] is None:
        raise TaskError("index_gone", f"{index.shown} is not there after its rebuild")
    return int(found[0][0])
