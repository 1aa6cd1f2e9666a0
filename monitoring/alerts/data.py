"""PostgreSQL and Redis (Runbook de Production §6: "base (locks, connexions)"); metrics of their exporters."""

from __future__ import annotations

from typing import Any

from monitoring.alerts.promtool_cases import Case, steady, stepwise
from monitoring.alerts.rule import Alert, Domain
from monitoring.alerts.threshold_alert import above
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: base (locks, connexions)"
EVERY, _STEP = 15, 30


def postgres(monitoring: Monitoring) -> Domain:
    limits = monitoring.postgres
    percent = limits.connections_percent
    common: dict[str, Any] = {
        "chapter": _CHAPTER,
        "missing": "no data while `PostgresAway`; without its exporter `MetricsMissing`",
        "step": _STEP,
    }
    used, most = 'pg_stat_activity_count{datname="shop",state="idle"}', "pg_settings_max_connections"
    exclusive = 'pg_locks_count{datname="shop",mode="accessexclusivelock"}'
    longest = 'pg_stat_activity_max_tx_duration{datname="shop",state="active"}'
    alerts = [
        _away("PostgresAway", "pg_up", "PostgreSQL", limits.away_seconds, "the database's pod, volume, logs"),
        above(
            "PostgresConnections",
            f"100 * sum(pg_stat_activity_count) / max(pg_settings_max_connections) > {percent:g}",
            lasting=limits.connections_seconds,
            severity="warning",
            summary=f"more than {percent:g} % of PostgreSQL's connections are in use",
            about="postgres-connections",
            channel="alerts",
            advice="who holds them: pg_stat_activity; idle ones point at a pool that is too large for so many pods",
            beyond={used: steady(10 * percent + 1), most: steady(1000)},
            within={used: steady(10 * percent), most: steady(1000)},
            value=('{{ $value | printf "%.1f" }} %', f"{percent + 0.1:.1f} %"),
            **common,
        ),
        above(
            "PostgresLocks",
            f'sum by (datname) (pg_locks_count{{mode="accessexclusivelock"}}) > {limits.exclusive_locks}',
            lasting=limits.locks_seconds,
            severity="warning",
            summary=f"more than {limits.exclusive_locks} exclusive locks in {{{{ $labels.datname }}}}: readers wait",
            about="postgres-locks",
            channel="alerts",
            advice="pg_locks where granted is false, and who blocks them (pg_blocking_pids)",
            beyond={exclusive: steady(limits.exclusive_locks + 1)},
            within={exclusive: steady(limits.exclusive_locks)},
            labels={"datname": "shop"},
            value=('{{ $value | printf "%.0f" }}', f"{limits.exclusive_locks + 1}"),
            **common,
        ),
        above(
            "PostgresDeadlocks",
            f"sum by (datname) (increase(pg_stat_database_deadlocks[1h])) > {limits.deadlocks}",
            lasting=0,
            since=7200,
            severity="warning",
            summary=f"more than {limits.deadlocks} deadlocks in {{{{ $labels.datname }}}} within an hour",
            about="postgres-deadlocks",
            channel="alerts",
            advice="the server's log names both statements of each",
            beyond={'pg_stat_database_deadlocks{datname="shop"}': _went_up(limits.deadlocks + 1)},
            within={'pg_stat_database_deadlocks{datname="shop"}': _went_up(limits.deadlocks)},
            labels={"datname": "shop"},
            value=('{{ $value | printf "%.0f" }}', f"{limits.deadlocks + 1}"),
            **common,
        ),
        above(
            "PostgresLongTransaction",
            f"max by (datname) (pg_stat_activity_max_tx_duration) > {limits.transaction_seconds}",
            lasting=0,
            severity="warning",
            summary=f"a transaction in {{{{ $labels.datname }}}} takes more than {limits.transaction_seconds} s",
            about="postgres-transactions",
            channel="performance",
            advice="pg_stat_activity by xact_start; a dump is one, too; `pg_terminate_backend` ends what is forgotten",
            beyond={longest: steady(limits.transaction_seconds + 1)},
            within={longest: steady(limits.transaction_seconds)},
            labels={"datname": "shop"},
            value=('{{ $value | printf "%.0f" }} s', f"{limits.transaction_seconds + 1} s"),
            **common,
        ),
    ]
    if limits.replicas:
        alerts += _replication(monitoring, common)
    return Domain(name="postgres", title="PostgreSQL", every=EVERY, alerts=tuple(alerts))


def _replication(monitoring: Monitoring, common: dict[str, Any]) -> list[Alert]:
    limits = monitoring.postgres
    lag = limits.replica_lag_seconds
    sender = "pg_stat_replication_pg_wal_lsn_diff"
    replicas = {f'{sender}{{application_name="r{n}"}}': steady(0) for n in range(limits.replicas)}
    more: dict[str, Any] = {**common, "about": "postgres-replication", "channel": "alerts", "severity": "warning"}
    return [
        above(
            "PostgresReplicaLags",
            # Its exporter has renamed it.
            f"max by (instance) (pg_replication_lag_seconds or pg_replication_lag) > {lag}",
            lasting=limits.connections_seconds,
            summary=f"replica {{{{ $labels.instance }}}} is more than {lag} s behind",
            advice="its disk and network; what is read from it is old",
            beyond={'pg_replication_lag_seconds{instance="r0"}': steady(lag + 1)},
            within={'pg_replication_lag{instance="r0"}': steady(lag)},
            labels={"instance": "r0"},
            value=('{{ $value | printf "%.0f" }} s', f"{lag + 1} s"),
            **{**more, "missing": "an exporter before 0.12 does not tell it; no replica at all: `PostgresReplicaAway`"},
        ),
        above(
            "PostgresReplicaAway",
            f"(count({sender}) or vector(0)) < {limits.replicas}",
            lasting=limits.connections_seconds,
            summary=f"fewer than {limits.replicas} replicas follow",
            advice="the replica's log; the primary keeps WAL for it until its disk is full",
            beyond=dict(list(replicas.items())[1:]),
            within=replicas,
            value=('{{ $value | printf "%.0f" }}', f"{limits.replicas - 1}"),
            **{**more, "missing": "no replica is 0 replicas: it fires"},
        ),
    ]


def redis(monitoring: Monitoring) -> Domain:
    limits = monitoring.redis
    percent = limits.memory_percent
    common: dict[str, Any] = {
        "severity": "warning",
        "channel": "alerts",
        "chapter": "Runbook de Production §6 (métriques infra); §3.2 (Redis)",
        "missing": "no data while `RedisAway`; without its exporter `MetricsMissing`",
        "step": _STEP,
    }
    used, most = "redis_memory_used_bytes", "redis_memory_max_bytes"
    counts = [
        ("RedisEvicts", "redis_evicted_keys_total", limits.evictions, "keys evicted for want of memory: sessions end"),
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
            _away("RedisAway", "redis_up", "Redis", limits.away_seconds, "its pod, volume and log"),
            above(
                "RedisMemory",
                f"100 * max(redis_memory_used_bytes) / max(redis_memory_max_bytes > 0) > {percent:g}",
                lasting=limits.memory_seconds,
                summary=f"Redis uses more than {percent:g} % of its memory: soon it evicts, or refuses writes",
                about="redis-memory",
                advice="`npm run cache:optimize`; keys without a TTL (redis-cli --bigkeys); more memory",
                beyond={used: steady(10 * percent + 1), most: steady(1000)},
                within={used: steady(10 * percent), most: steady(1000)},
                value=('{{ $value | printf "%.1f" }} %', f"{percent + 0.1:.1f} %"),
                also=(
                    Case(
                        title="no limit, no part of it",
                        series={used: steady(1000), most: steady(0)},
                        checks=((limits.memory_seconds + 300, False),),
                        step=_STEP,
                    ),
                ),
                **common,
            ),
            *(
                above(
                    name,
                    f"sum(increase({metric}[5m])) > {limit}",
                    lasting=0,
                    since=600,
                    summary=f"more than {limit} {what}",
                    about=name.lower(),
                    advice="memory and clients on the dashboard; who connects: CLIENT LIST",
                    beyond={metric: stepwise((3, 16), (4 + limit, 100))},
                    within={metric: stepwise((3, 16), (3 + limit, 100))},
                    value=('{{ $value | printf "%.0f" }}', f"{limit + 1}"),
                    **common,
                )
                for name, metric, limit, what in counts
            ),
        ),
    )


def _away(name: str, metric: str, what: str, lasting: int, where: str) -> Alert:
    return above(
        name,
        f"max({metric} == 0)",
        lasting=lasting,
        since=3 * _STEP,
        severity="critical",
        summary=f"{what} does not answer",
        about=name.lower(),
        channel="critical",
        chapter=_CHAPTER,
        missing="its exporter away: `TargetAway`, `MetricsMissing`",
        advice=f"{where}; no release goes back for it",
        beyond={metric: stepwise((1, 3), (0, 1000))},
        within={metric: steady(1)},
        step=_STEP,
        quiet=True,
    )


def _went_up(by: int) -> str:
    """From 5, once, within the hour that the rule looks at."""
    return stepwise((5, 4000 // _STEP), (5 + by, 1000))
