"""PostgreSQL and Redis (Runbook de Production §6: "base (locks, connexions)")."""

from __future__ import annotations

from monitoring.dashboards.board import YES_OR_NO, Board, Line, Panel, Query, Row, graph, number
from settings.monitoring import Monitoring


def database(monitoring: Monitoring) -> Board:
    rows = [Row("PostgreSQL", _postgres(monitoring)), Row("Work", _work())]
    if monitoring.postgres.replicas:
        rows.append(Row("Replicas", _replicas(monitoring)))
    rows.append(Row("Redis", _redis(monitoring)))
    return Board(
        slug="database",
        title="Database and Redis",
        about="Locks, connections and transactions of PostgreSQL; memory and evictions of Redis.",
        since="now-6h",
        watches=("postgres", "redis"),
        rows=tuple(rows),
    )


def _postgres(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.postgres
    return (
        number("PostgreSQL answers", "short", "max(pg_up)", words=YES_OR_NO),
        number("Size", "bytes", "sum(pg_database_size_bytes)"),
        graph(
            "Connections in use",
            "percent",
            Query("100 * sum(pg_stat_activity_count) / max(pg_settings_max_connections)", "of max_connections"),
            lines=(Line(alert="PostgresConnections", value=limits.connections_percent),),
        ),
        graph("Connections by state", "short", Query("sum by (state) (pg_stat_activity_count)", "{{state}}")),
        graph(
            "Exclusive locks",
            "short",
            Query('sum by (datname) (pg_locks_count{mode="accessexclusivelock"})', "{{datname}}"),
            lines=(Line(alert="PostgresLocks", value=limits.exclusive_locks),),
            about="Nobody can read beside them; a migration takes some for a moment.",
        ),
        graph(
            "Deadlocks within an hour",
            "short",
            Query("sum by (datname) (increase(pg_stat_database_deadlocks[1h]))", "{{datname}}"),
            lines=(Line(alert="PostgresDeadlocks", value=limits.deadlocks),),
        ),
        graph(
            "Longest transaction",
            "s",
            Query("max by (datname) (pg_stat_activity_max_tx_duration)", "{{datname}}"),
            lines=(Line(alert="PostgresLongTransaction", value=limits.transaction_seconds),),
            about="It holds locks, and keeps VACUUM from cleaning. A dump is one, too.",
        ),
    )


def _work() -> tuple[Panel, ...]:
    read, hit = "pg_stat_database_blks_read[5m]", "pg_stat_database_blks_hit[5m]"
    return (
        graph(
            "Transactions",
            "ops",
            Query("sum(rate(pg_stat_database_xact_commit[5m]))", "committed"),
            Query("sum(rate(pg_stat_database_xact_rollback[5m]))", "rolled back"),
        ),
        graph(
            "Blocks found in memory",
            "percent",
            Query(f"100 * sum(rate({hit})) / (sum(rate({hit})) + sum(rate({read})))", "found"),
        ),
        graph("Locks by mode", "short", Query("sum by (mode) (pg_locks_count) > 0", "{{mode}}")),
    )


def _replicas(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.postgres
    return (
        graph(
            "Behind the primary",
            "s",
            Query("max by (instance) (pg_replication_lag_seconds or pg_replication_lag)", "{{instance}}"),
            lines=(Line(alert="PostgresReplicaLags", value=limits.replica_lag_seconds),),
            width=12,
        ),
        graph(
            "Replicas that follow",
            "short",
            Query("(count(pg_stat_replication_pg_wal_lsn_diff) or vector(0))", "replicas"),
            lines=(Line(alert="PostgresReplicaAway", value=limits.replicas, below=True),),
            width=12,
        ),
    )


def _redis(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.redis
    hits, misses = "redis_keyspace_hits_total[5m]", "redis_keyspace_misses_total[5m]"
    return (
        number("Redis answers", "short", "max(redis_up)", words=YES_OR_NO),
        number("Clients", "short", "sum(redis_connected_clients)"),
        graph(
            "Memory in use",
            "percent",
            Query("100 * max(redis_memory_used_bytes) / max(redis_memory_max_bytes > 0)", "of maxmemory"),
            lines=(Line(alert="RedisMemory", value=limits.memory_percent),),
            about="Nothing where Redis has no limit.",
        ),
        graph("Memory", "bytes", Query("max(redis_memory_used_bytes)", "in use")),
        graph(
            "Evicted within 5 min",
            "short",
            Query("sum(increase(redis_evicted_keys_total[5m]))", "keys"),
            lines=(Line(alert="RedisEvicts", value=limits.evictions),),
            about="What is evicted logs somebody out.",
        ),
        graph(
            "Refused connections within 5 min",
            "short",
            Query("sum(increase(redis_rejected_connections_total[5m]))", "connections"),
            lines=(Line(alert="RedisRejects", value=limits.rejected_connections),),
        ),
        graph(
            "Found", "percent", Query(f"100 * sum(rate({hits})) / (sum(rate({hits})) + sum(rate({misses})))", "hits")
        ),
    )
