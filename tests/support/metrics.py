"""One reading of every metric that dashboards ask for, as promtool has it: names and labels are the exporters' own."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import rising, steady, stepwise

STEP, AT = 30, 7200
"""Seconds from one value to the next; the second at which it is asked."""

_OLD, _NEW = 'release="1.0.0",git="aaa"', 'release="2.0.0",git="bbb"'
# The new release has served for a minute.
_STARTED = f"_x{AT // STEP - 3} 0+5x20"

SHOP = {
    **{
        f'http_request_duration_seconds_count{{method="GET",route="/shop",status="{status}",{_OLD}}}': rising(by)
        for status, by in (("200", 300), ("500", 3))
    },
    f'http_request_duration_seconds_count{{method="GET",route="/shop",status="200",{_NEW}}}': _STARTED,
    **{
        f'http_request_duration_seconds_bucket{{method="GET",route="/shop",status="200",le="{le}",{_OLD}}}': rising(by)
        for le, by in (("0.1", 200), ("3", 300), ("+Inf", 300))
    },
    "shop_orders_total": rising(2),
    **{f'shop_payments_total{{result="{result}"}}': rising(3) for result in ("succeeded", "failed")},
    **{f'shop_logins_total{{result="{result}"}}': rising(3) for result in ("accepted", "refused")},
    **{
        f'shop_webhooks_total{{endpoint="payments",result="{result}"}}': rising(1) for result in ("accepted", "refused")
    },
    'shop_suspicious_requests_total{kind="sql_injection"}': rising(1),
    **{
        f'shop_secret_uses_total{{secret="JWT_SECRET",which="{which}"}}': rising(1) for which in ("current", "previous")
    },
}
RUNBOOK = {
    **{
        f"runbook_{name}": steady(600)
        for name in (
            "backups",
            "backup_last_success_timestamp_seconds",
            "backup_last_scheduled_timestamp_seconds",
            "backup_last_proven_timestamp_seconds",
            "backup_size_bytes",
            "backup_previous_size_bytes",
            "backup_database_bytes",
            "restore_test_rto_seconds",
            "restore_test_rpo_seconds",
        )
    },
    **{
        f"runbook_{name}": steady(1)
        for name in ("backup_store_up", "restore_test_passed", "restore_test_evidence_intact")
    },
    'runbook_backup_retention_problems{problem="overdue"}': steady(0),
    'runbook_restore_test_records{result="passed"}': steady(3),
    **{
        f'runbook_secret_{name}{{secret="JWT_SECRET"}}': steady(600)
        for name in (
            "rotated_timestamp_seconds",
            "max_age_seconds",
            "overlap_until_timestamp_seconds",
            "emergency_timestamp_seconds",
        )
    },
    'runbook_page_measured_timestamp_seconds{path="/shop"}': steady(600),
    'runbook_page_budget_percent{path="/shop",metric="lcp",worst="LCP",revision="7",git="abc"}': steady(80),
    "runbook_page_check_benchmark": steady(1500),
    **{f'runbook_page_check_pages{{result="{name}"}}': steady(0) for name in ("over budget", "busy", "not measured")},
    **{
        f'runbook_page_value{{path="/shop",metric="{name}"}}': steady(1)
        for name in ("score", "lcp", "tbt", "cls", "bundleKb")
    },
    'runbook_secret_verification_failed{secret="JWT_SECRET"}': steady(0),
    'runbook_secret_phase{secret="JWT_SECRET",phase="dual"}': steady(1),
}
OTHERS = {
    'probe_success{job="health"}': stepwise((1, 100), (0, 200)),
    'probe_success{job="front-door"}': steady(1),
    'probe_ssl_earliest_cert_expiry{job="front-door"}': steady(9_000_000),
    "certificate:expiry:last": steady(9_000_000),
    **{
        f"{domain}:{what}:step{{{release}}}": steady(by)
        for domain in ("triggers", "service")
        for release in (_OLD, _NEW)
        for what, by in (("errors", 1), ("requests", 100), ("slow", 1))
    },
    "triggers:gateway_errors:step": steady(1),
    "triggers:gateway_requests:step": steady(100),
    'process_start_time_seconds{job="backend",instance="1"}': steady(100),
    "slo:requests:rate30s": steady(10),
    "slo:errors:rate30s": steady(0.01),
    **{name: steady(1) for name in ("pg_up", "redis_up", 'up{job="backend",instance="1"}')},
    "pg_settings_max_connections": steady(100),
    'pg_database_size_bytes{datname="shop"}': steady(1e7),
    'pg_stat_activity_count{datname="shop",state="idle"}': steady(5),
    'pg_locks_count{datname="shop",mode="accessexclusivelock"}': steady(1),
    **{
        f'pg_stat_{name}{{datname="shop"}}': rising(1)
        for name in ("database_deadlocks", "database_xact_commit", "database_xact_rollback", "activity_max_tx_duration")
    },
    **{f'pg_stat_database_blks_{name}{{datname="shop"}}': rising(9) for name in ("read", "hit")},
    'pg_replication_lag_seconds{instance="r0"}': steady(1),
    'pg_stat_replication_pg_wal_lsn_diff{application_name="r0"}': steady(0),
    **{f"redis_{name}": steady(100) for name in ("memory_used_bytes", "memory_max_bytes", "connected_clients")},
    **{
        f"redis_{name}_total": rising(1)
        for name in ("evicted_keys", "rejected_connections", "keyspace_hits", "keyspace_misses")
    },
    **{
        f'container_{name}{{pod="backend-1",container="backend"}}': rising(1)
        for name in (
            "cpu_usage_seconds_total",
            "cpu_cfs_throttled_periods_total",
            "cpu_cfs_periods_total",
            "oom_events_total",
            "spec_cpu_quota",
            "spec_cpu_period",
            "memory_working_set_bytes",
            "spec_memory_limit_bytes",
        )
    },
    **{
        f'kubelet_volume_stats_{name}_bytes{{persistentvolumeclaim="data-postgres-0"}}': steady(1e9)
        for name in ("available", "capacity")
    },
    'kube_pod_container_status_restarts_total{pod="backend-1",container="backend"}': steady(2),
    **{
        f'kube_cronjob_{name}_time{{cronjob="backup"}}': steady(600)
        for name in ("next_schedule", "status_last_successful")
    },
}
NODES = {
    'node_cpu_seconds_total{instance="node-1",mode="idle"}': rising(20),
    **{f'node_memory_{name}_bytes{{instance="node-1"}}': steady(1e9) for name in ("MemAvailable", "MemTotal")},
    'node_disk_io_time_seconds_total{instance="node-1",device="sda"}': rising(1),
    **{
        f'node_filesystem_{name}_bytes{{instance="node-1",mountpoint="/",fstype="ext4"}}': steady(1e9)
        for name in ("avail", "size")
    },
}
