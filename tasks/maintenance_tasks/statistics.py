"""`statistics`: sizes, dead rows, cache hits, unused and invalid indexes; a report says what changed since the last."""

from __future__ import annotations

from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say, size

_LARGEST = 20
_DATABASE = """
SELECT pg_database_size(current_database())::bigint, age(datfrozenxid)::bigint,
       s.blks_hit::float / nullif(s.blks_hit + s.blks_read, 0), s.deadlocks::bigint, s.temp_bytes::bigint,
       coalesce(s.stats_reset, pg_postmaster_start_time())
FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database()
"""
_TABLES = """
SELECT n.nspname || '.' || c.relname, pg_table_size(c.oid)::bigint, pg_indexes_size(c.oid)::bigint,
       coalesce(s.n_live_tup, 0)::bigint, coalesce(s.n_dead_tup, 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND c.relpersistence <> 't'
ORDER BY 2 + 3 DESC
"""
# Not one that a constraint needs: it is used without being scanned.
_UNUSED = """
SELECT s.schemaname || '.' || s.indexrelname, pg_relation_size(s.indexrelid)::bigint
FROM pg_stat_user_indexes s JOIN pg_index x ON x.indexrelid = s.indexrelid
WHERE s.idx_scan = 0 AND NOT x.indisunique AND x.indisvalid AND pg_relation_size(s.indexrelid) >= 1024 * 1024
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.indexrelid)
ORDER BY 2 DESC
"""
_INVALID = """
SELECT i.relnamespace::regnamespace || '.' || i.relname FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
WHERE NOT x.indisvalid AND i.relkind = 'i'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = x.indrelid) ORDER BY 1
"""


def read_statistics(context: Context) -> Outcome:
    """Numbers of the database and of its largest tables."""
    with context.connected() as connection:
        total, age, hits, deadlocks, temporary, since = context.rows(connection, _DATABASE)[0]
        tables = context.rows(connection, _TABLES)
        unused = context.rows(connection, _UNUSED)
        invalid = [name for (name,) in context.rows(connection, _INVALID)]
    measures: dict[str, float] = {
        "database bytes": total,
        "transaction id age": age,
        "deadlocks": deadlocks,
        "temporary file bytes": temporary,
        "tables": len(tables),
        "dead rows": sum(row[4] for row in tables),
        "unused index bytes": sum(row[1] for row in unused),
        "invalid indexes": len(invalid),
    }
    if hits is not None:
        measures["cache hit ratio"] = round(hits, 4)
    for name, data, indexes, live, dead in tables[:_LARGEST]:
        measures |= {
            f"{name}: table bytes": data,
            f"{name}: index bytes": indexes,
            f"{name}: live rows": live,
            f"{name}: dead rows": dead,
        }
    say(f"  {size(total)}, {len(tables)} tables")
    notes = [f"{name}: never scanned since {since:%F}, {size(bytes_)}" for name, bytes_ in unused[:_LARGEST]]
    notes += [f"{name}: invalid, used by no query" for name in invalid]
    return Outcome(notes=notes, measures=measures)
