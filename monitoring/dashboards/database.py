"""PostgreSQL and Redis (Runbook de Production §6: "base (locks, connexions)")."""

from __future__ import annotations

from monitoring.dashboards.board import YES_OR_NO, Board, Measured, Panel, Query, Row, graph, number
from settings.monitoring import Monitoring


def database(monitoring: Monitoring) -> Board:
    """Of the servers that the stack has: one of them at least."""
    rows, titles, about = list[Row](), list[str](), list[str]()
    if postgres := monitoring.postgres:
        rows += [Row("PostgreSQL", _postgres()), Row("Transactions and locks", _work())]
        rows += [Row("Replicas", _replicas())] if postgres.replicas else []
        titles.append("Database")
        about.append("locks, connections and transactions of PostgreSQL")
    if monitoring.redis:
        rows.append(Row("Redis", _redis()))
        titles.append("Redis")
        about.append("memory and evictions of Redis")
    text = "; ".join(about)
    return Board(
        slug="database",
        title=" and ".join(titles),
        about=f"{text[:1].upper()}{text[1:]}.",
        since="now-6h",
        domains=("postgres", "redis"),
        rows=tuple(rows),
    )


def _postgres() -> tuple[Panel, ...]:
    return (
        number("PostgreSQL answers", "short", "max(pg_up{})", words=YES_OR_NO),
        number("Size", "bytes", "sum(pg_database_size_bytes{})"),
        graph(
            "Connections in use",
            "percent",
            Measured("PostgresConnections", "of max_connections"),
        ),
        graph("Connections by state", "short", Query("sum by (state) (pg_stat_activity_count{})", "{{state}}")),
        graph(
            "Exclusive locks",
            "short",
            Measured("PostgresLocks", "{{datname}}"),
            about="They block readers. Migrations take some briefly.",
        ),
        graph(
            "Deadlocks within an hour",
            "short",
            Measured("PostgresDeadlocks", "{{datname}}"),
        ),
        graph(
            "Longest transaction",
            "s",
            Measured("PostgresLongTransaction", "{{datname}}"),
            about="It holds locks and keeps VACUUM from removing dead rows. pg_dump runs in one, too.",
        ),
    )


def _work() -> tuple[Panel, ...]:
    read, hit = "pg_stat_database_blks_read{}[5m]", "pg_stat_database_blks_hit{}[5m]"
    return (
        graph(
            "Transactions",
            "ops",
            Query("sum(rate(pg_stat_database_xact_commit{}[5m]))", "committed"),
            Query("sum(rate(pg_stat_database_xact_rollback{}[5m]))", "rolled back"),
        ),
        graph(
            "Buffer hit ratio",
            "percent",
            Query(f"100 * sum(rate({hit})) / (sum(rate({hit})) + sum(rate({read})))", "found"),
        ),
        graph("Locks by mode", "short", Query("sum by (mode) (pg_locks_count{}) > 0", "{{mode}}")),
    )


def _replicas() -> tuple[Panel, ...]:
    return (
        graph(
            "Replication lag",
            "s",
            Measured("PostgresReplicaLags", "{{instance}}"),
            width=12,
        ),
        graph(
            "Connected replicas",
            "short",
            Measured("PostgresReplicaAway", "replicas"),
            width=12,
        ),
    )


def _redis() -> tuple[Panel, ...]:
    hits, misses = "redis_keyspace_hits_total{}[5m]", "redis_keyspace_misses_total{}[5m]"
    return (
        number("Redis answers", "short", "max(redis_up{})", words=YES_OR_NO),
        number("Clients", "short", "sum(redis_connected_clients{})"),
        graph(
            "Memory in use",
            "percent",
            Measured("RedisMemory", "of maxmemory"),
            about="No data if `maxmemory` is not set.",
        ),
        graph("Memory", "bytes", Query("max(redis_memory_used_bytes{})", "in use")),
        graph(
            "Evicted keys within 5 min",
            "short",
            Measured("RedisEvicts", "keys"),
            about="Evicting a session logs its customer out.",
        ),
        graph(
            "Refused connections within 5 min",
            "short",
            Measured("RedisRejects", "connections"),
        ),
        graph(
            "Key hit ratio",
            "percent",
            Query(f"100 * sum(rate({hits})) / (sum(rate({hits})) + sum(rate({misses})))", "hits"),
        ),
    )
