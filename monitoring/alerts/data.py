"""PostgreSQL and Redis (Runbook de Production §6: "base (locks, connexions)"); metrics of their exporters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.alerts.promtool_cases import Boundary, Case, steady, stepwise
from monitoring.alerts.rule import COUNT, PERCENT, SECONDS, Alert, Domain
from settings.thresholds import Postgres, Redis

_CHAPTER = "Runbook de Production §6: base (locks, connexions)"
EVERY, _STEP = 15, 30


def postgres(limits: Postgres) -> Domain:
    alerts = (
        _down("PostgresAway", "pg_up", "PostgreSQL", limits.away_seconds),
        *_postgres(limits),
        *(_replication(limits) if limits.replicas else ()),
    )
    return Domain(name="postgres", title="PostgreSQL", every=EVERY, alerts=alerts)


def _postgres(limits: Postgres) -> Iterator[Alert]:
    percent = limits.connections_percent
    common: dict[str, Any] = {
        "operator": ">",
        "severity": "warning",
        "chapter": _CHAPTER,
        "missing": "while the server is down: `PostgresAway`; without its exporter: `MetricsMissing`",
    }
    used, most = 'pg_stat_activity_count{datname="shop",state="idle"}', "pg_settings_max_connections"
    exclusive = 'pg_locks_count{datname="shop",mode="accessexclusivelock"}'
    longest = 'pg_stat_activity_max_tx_duration{datname="shop",state="active"}'
    deadlocks = 'pg_stat_database_deadlocks{datname="shop"}'
    shop = {"datname": "shop"}
    yield Alert(
        name="PostgresConnections",
        measure="100 * sum(pg_stat_activity_count{}) / max(pg_settings_max_connections{})",
        limit=percent,
        lasting=limits.connections_seconds,
        summary=f"more than {percent:g} % of PostgreSQL's connections are in use",
        about="postgres-connections",
        channel="alerts",
        advice="pg_stat_activity shows who holds them; many idle ones: the pool is too large for this many pods",
        value=PERCENT,
        boundary=Boundary(
            beyond={used: steady(10 * percent + 1), most: steady(1000)},
            within={used: steady(10 * percent), most: steady(1000)},
            step=_STEP,
            value=f"{percent + 0.1:.1f} %",
        ),
        **common,
    )
    yield Alert(
        name="PostgresLocks",
        measure='sum by (datname) (pg_locks_count{mode="accessexclusivelock"})',
        limit=limits.exclusive_locks,
        lasting=limits.locks_seconds,
        summary=f"more than {limits.exclusive_locks} exclusive locks in {{{{ $labels.datname }}}}: readers wait",
        about="postgres-locks",
        channel="alerts",
        advice="pg_locks where granted is false; pg_blocking_pids shows what blocks them",
        value=COUNT,
        boundary=Boundary(
            beyond={exclusive: steady(limits.exclusive_locks + 1)},
            within={exclusive: steady(limits.exclusive_locks)},
            step=_STEP,
            labels=shop,
            value=f"{limits.exclusive_locks + 1}",
        ),
        **common,
    )
    yield Alert(
        name="PostgresDeadlocks",
        measure="sum by (datname) (increase(pg_stat_database_deadlocks{}[1h]))",
        limit=limits.deadlocks,
        summary=f"more than {limits.deadlocks} deadlocks in {{{{ $labels.datname }}}} within an hour",
        about="postgres-deadlocks",
        channel="alerts",
        advice="the server's log contains both statements of each",
        value=COUNT,
        boundary=Boundary(
            beyond={deadlocks: _went_up(limits.deadlocks + 1)},
            within={deadlocks: _went_up(limits.deadlocks)},
            step=_STEP,
            since=7200,
            labels=shop,
            value=f"{limits.deadlocks + 1}",
        ),
        **common,
    )
    yield Alert(
        name="PostgresLongTransaction",
        measure="max by (datname) (pg_stat_activity_max_tx_duration{})",
        limit=limits.transaction_seconds,
        summary=f"a transaction in {{{{ $labels.datname }}}} takes more than {limits.transaction_seconds} s",
        about="postgres-transactions",
        channel="performance",
        advice="pg_stat_activity by xact_start; a dump is a transaction, too; `pg_terminate_backend` ends one",
        value=SECONDS,
        boundary=Boundary(
            beyond={longest: steady(limits.transaction_seconds + 1)},
            within={longest: steady(limits.transaction_seconds)},
            step=_STEP,
            labels=shop,
            value=f"{limits.transaction_seconds + 1} s",
        ),
        **common,
    )


def _replication(limits: Postgres) -> tuple[Alert, Alert]:
    lag = limits.replica_lag_seconds
    sender = "pg_stat_replication_pg_wal_lsn_diff"
    replicas = {f'{sender}{{application_name="r{n}"}}': steady(0) for n in range(limits.replicas)}
    common: dict[str, Any] = {
        "lasting": limits.connections_seconds,
        "severity": "warning",
        "about": "postgres-replication",
        "channel": "alerts",
        "chapter": _CHAPTER,
    }
    return (
        Alert(
            name="PostgresReplicaLags",
            # Newer exporters have the second name.
            measure="max by (instance) (pg_replication_lag_seconds{} or pg_replication_lag{})",
            operator=">",
            limit=lag,
            summary=f"replica {{{{ $labels.instance }}}} is more than {lag} s behind",
            advice="check the replica's disk and network; reads from it are stale",
            missing="with an exporter before 0.12 it does not fire; without replicas: `PostgresReplicaAway`",
            value=SECONDS,
            boundary=Boundary(
                beyond={'pg_replication_lag_seconds{instance="r0"}': steady(lag + 1)},
                within={'pg_replication_lag{instance="r0"}': steady(lag)},
                step=_STEP,
                labels={"instance": "r0"},
                value=f"{lag + 1} s",
            ),
            **common,
        ),
        Alert(
            name="PostgresReplicaAway",
            measure=f"(count({sender}{{}}) or vector(0))",
            operator="<",
            limit=limits.replicas,
            summary=f"fewer than {limits.replicas} replicas are connected",
            advice="the replica's log; the primary keeps WAL for it until its disk is full",
            missing="no replica counts as 0: it fires",
            value=COUNT,
            boundary=Boundary(
                beyond=dict(list(replicas.items())[1:]), within=replicas, step=_STEP, value=f"{limits.replicas - 1}"
            ),
            **common,
        ),
    )


def redis(limits: Redis) -> Domain:
    percent = limits.memory_percent
    common: dict[str, Any] = {
        "operator": ">",
        "severity": "warning",
        "channel": "alerts",
        "chapter": "Runbook de Production §6 (métriques infra); §3.2 (Redis)",
        "missing": "while the server is down: `RedisAway`; without its exporter: `MetricsMissing`",
    }
    used, most = "redis_memory_used_bytes", "redis_memory_max_bytes"
    counts = [
        ("RedisEvicts", "redis_evicted_keys_total", limits.evictions, "keys evicted, memory is full: sessions end"),
        (
            "RedisRejects",
            "redis_rejected_connections_total",
            limits.rejected_connections,
            "connections refused: maxclients is reached",
        ),
    ]
    return Domain(
        name="redis",
        title="Redis",
        every=EVERY,
        alerts=(
            _down("RedisAway", "redis_up", "Redis", limits.away_seconds),
            Alert(
                name="RedisMemory",
                measure="100 * max(redis_memory_used_bytes{}) / max(redis_memory_max_bytes{} > 0)",
                limit=percent,
                lasting=limits.memory_seconds,
                summary=f"Redis uses more than {percent:g} % of its memory: when full, it evicts or refuses writes",
                about="redis-memory",
                advice="`npm run cache:optimize`; find keys without a TTL (redis-cli --bigkeys); add memory",
                value=PERCENT,
                boundary=Boundary(
                    beyond={used: steady(10 * percent + 1), most: steady(1000)},
                    within={used: steady(10 * percent), most: steady(1000)},
                    step=_STEP,
                    value=f"{percent + 0.1:.1f} %",
                ),
                more=(
                    Case(
                        title="without a limit there is no percentage",
                        series={used: steady(1000), most: steady(0)},
                        checks=((limits.memory_seconds + 300, False),),
                        step=_STEP,
                    ),
                ),
                **common,
            ),
            *(
                Alert(
                    name=name,
                    measure=f"sum(increase({metric}{{}}[5m]))",
                    limit=limit,
                    summary=f"more than {limit} {what}",
                    about=name.lower(),
                    advice="the dashboard `Database and Redis` shows memory and clients; CLIENT LIST shows connections",
                    value=COUNT,
                    boundary=Boundary(
                        beyond={metric: stepwise((3, 16), (4 + limit, 100))},
                        within={metric: stepwise((3, 16), (3 + limit, 100))},
                        step=_STEP,
                        since=600,
                        value=f"{limit + 1}",
                    ),
                    **common,
                )
                for name, metric, limit, what in counts
            ),
        ),
    )


def _down(name: str, metric: str, what: str, lasting: int) -> Alert:
    return Alert(
        name=name,
        measure=f"max({metric}{{}} == 0)",
        lasting=lasting,
        severity="critical",
        summary=f"{what} does not answer",
        about=name.lower(),
        channel="critical",
        chapter=_CHAPTER,
        missing="without its exporter: `TargetAway`, `MetricsMissing`",
        advice="check its pod, volume and log; no release is rolled back for it",
        boundary=Boundary(
            beyond={metric: stepwise((1, 3), (0, 1000))}, within={metric: steady(1)}, step=_STEP, since=3 * _STEP
        ),
        quiet=True,
    )


def _went_up(by: int) -> str:
    """From 5, once, within the hour of the rule."""
    return stepwise((5, 4000 // _STEP), (5 + by, 1000))
