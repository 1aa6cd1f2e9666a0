"""CPU, memory, I/O and disks (Runbook de Production §6: "métriques infra (CPU, RAM, I/O)").

Containers and volumes come from the kubelet; nodes from node_exporter, where the cluster has it.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from monitoring.alerts.promtool_cases import Case, rising, steady, stepwise
from monitoring.alerts.rule import Alert, Domain
from monitoring.alerts.threshold_alert import above
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: métriques infra (CPU, RAM, I/O)"
EVERY, _STEP = 30, 60
_ONE = 'pod="backend-1",container="backend"'
_LABELS = {"pod": "backend-1", "container": "backend"}
_PERCENT = '{{ $value | printf "%.1f" }} %'


def containers(monitoring: Monitoring) -> Domain:
    limits = monitoring.infrastructure
    cpu, throttled, memory = limits.cpu_percent, limits.throttled_percent, limits.memory_percent
    common: dict[str, Any] = {
        "lasting": limits.lasting_seconds,
        "since": _STEP,
        "severity": "warning",
        "chapter": _CHAPTER,
        "step": _STEP,
        "labels": _LABELS,
        "missing": "a container without a limit has no part of it; no container at all: `MetricsMissing`",
    }
    used, quota = f"container_cpu_usage_seconds_total{{{_ONE}}}", f"container_spec_cpu_quota{{{_ONE}}}"
    period = {f"container_spec_cpu_period{{{_ONE}}}": steady(100_000)}
    slowed, periods = (f"container_cpu_cfs_{kind}_total{{{_ONE}}}" for kind in ("throttled_periods", "periods"))
    working, most = f"container_memory_working_set_bytes{{{_ONE}}}", f"container_spec_memory_limit_bytes{{{_ONE}}}"
    by = "sum by (pod, container)"
    mine = '{container!=""}'
    return Domain(
        name="containers",
        title="Containers and volumes",
        every=EVERY,
        alerts=(
            above(
                "ContainerCpu",
                f"100 * {by} (rate(container_cpu_usage_seconds_total{mine}[2m])) / "
                f"({by} (container_spec_cpu_quota{mine}) / {by} (container_spec_cpu_period{mine})) > {cpu:g}",
                summary=f"{{{{ $labels.pod }}}} ({{{{ $labels.container }}}}) uses more than {cpu:g} % of its CPU",
                about="cpu",
                channel="performance",
                advice="more replicas or a higher limit; the overview shows whether a release began it",
                beyond={used: rising(0.6 * cpu + 0.06), quota: steady(100_000), **period},
                within={used: rising(0.6 * cpu - 0.06), quota: steady(100_000), **period},
                value=(_PERCENT, f"{cpu + 0.1:.1f} %"),
                **{**common, "since": 2 * _STEP},
            ),
            above(
                "ContainerThrottled",
                f"100 * {by} (rate(container_cpu_cfs_throttled_periods_total{mine}[2m])) / "
                f"{by} (rate(container_cpu_cfs_periods_total{mine}[2m])) > {throttled:g}",
                summary=f"{{{{ $labels.pod }}}} ({{{{ $labels.container }}}}) is throttled {throttled:g} % of the time",
                about="throttling",
                channel="performance",
                advice="a higher CPU limit; answers get slow long before CPU is at 100 %",
                beyond={slowed: rising(6 * throttled + 6), periods: rising(600)},
                within={slowed: rising(6 * throttled), periods: rising(600)},
                value=(_PERCENT, f"{throttled + 1:.1f} %"),
                **common,
            ),
            above(
                "ContainerMemory",
                f"100 * {by} (container_memory_working_set_bytes{mine}) / "
                f"{by} (container_spec_memory_limit_bytes{mine} > 0) > {memory:g}",
                summary=f"{{{{ $labels.pod }}}} ({{{{ $labels.container }}}}) is above {memory:g} % of its memory",
                about="memory",
                channel="alerts",
                advice="at 100 % it is ended (OOMKilled): a higher limit, or a leak since the last release?",
                beyond={working: steady(10 * memory + 1), most: steady(1000)},
                within={working: steady(10 * memory), most: steady(1000)},
                value=(_PERCENT, f"{memory + 0.1:.1f} %"),
                **{**common, "since": 0},
            ),
            above(
                "ContainerOutOfMemory",
                f"sum by (pod, container) (increase(container_oom_events_total{mine}[10m])) > 0",
                summary="{{ $labels.pod }} ({{ $labels.container }}) was ended for want of memory",
                about="memory",
                channel="alerts",
                advice="a higher limit, or a leak since the last release?",
                beyond={f"container_oom_events_total{{{_ONE}}}": stepwise((0, 12), (1, 100))},
                within={f"container_oom_events_total{{{_ONE}}}": steady(1)},
                **{**common, "lasting": 0, "since": 900, "severity": "critical"},
            ),
            _volume_fills(monitoring),
            _volume_full(monitoring),
        ),
    )


def _volume_fills(monitoring: Monitoring) -> Alert:
    limits = monitoring.infrastructure
    return _fills(
        "VolumeFills",
        "kubelet_volume_stats_available_bytes",
        'kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-postgres-0"}',
        monitoring,
        what="volume {{ $labels.persistentvolumeclaim }}",
        labels={"persistentvolumeclaim": "data-postgres-0"},
        missing="not every storage tells how full it is: where it does not, watch it there",
        lasting=limits.lasting_seconds,
    )


def _volume_full(monitoring: Monitoring) -> Alert:
    limit = monitoring.infrastructure.disk_percent
    claim = '{persistentvolumeclaim="data-postgres-0"}'
    free, size = f"kubelet_volume_stats_available_bytes{claim}", f"kubelet_volume_stats_capacity_bytes{claim}"
    return above(
        "VolumeFull",
        "100 - 100 * min by (persistentvolumeclaim) (kubelet_volume_stats_available_bytes / "
        f"kubelet_volume_stats_capacity_bytes) > {limit:g}",
        lasting=60,
        severity="critical",
        summary=f"volume {{{{ $labels.persistentvolumeclaim }}}} is more than {limit:g} % full",
        about="disk",
        channel="critical",
        chapter=_CHAPTER,
        missing="not every storage tells how full it is: where it does not, watch it there",
        advice="make the volume larger (`storage` in the stack file), or find what fills it",
        beyond={free: steady(1000 - 10 * limit - 1), size: steady(1000)},
        within={free: steady(1000 - 10 * limit), size: steady(1000)},
        labels={"persistentvolumeclaim": "data-postgres-0"},
        value=(_PERCENT, f"{limit + 0.1:.1f} %"),
        step=_STEP,
    )


def nodes(monitoring: Monitoring) -> Domain:
    limits = monitoring.infrastructure
    cpu, memory, io = limits.cpu_percent, limits.memory_percent, limits.io_percent
    common: dict[str, Any] = {
        "lasting": limits.lasting_seconds,
        "severity": "warning",
        "chapter": _CHAPTER,
        "step": _STEP,
        "missing": "no node at all: `MetricsMissing`",
        "value": (_PERCENT, ""),
    }
    one = {"instance": "node-1"}
    filesystem = 'node_filesystem_%s_bytes{instance="node-1",mountpoint="/",fstype="ext4"}'
    here = {"instance": "node-1", "mountpoint": "/"}
    real = '{fstype!~"tmpfs|overlay|squashfs|ramfs"}'
    free = f"node_filesystem_avail_bytes{real} / node_filesystem_size_bytes{real}"
    total = 'node_memory_MemTotal_bytes{instance="node-1"}'
    available = 'node_memory_MemAvailable_bytes{instance="node-1"}'
    return Domain(
        name="nodes",
        title="Nodes",
        every=EVERY,
        alerts=(
            above(
                "NodeCpu",
                f'100 - 100 * avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}[2m])) > {cpu:g}',
                summary=f"node {{{{ $labels.instance }}}} uses more than {cpu:g} % of its CPU",
                about="node-cpu",
                channel="performance",
                advice="what runs there; another node, or fewer requests for CPU",
                beyond={'node_cpu_seconds_total{instance="node-1",mode="idle"}': rising(60 - 0.6 * (cpu + 1))},
                within={'node_cpu_seconds_total{instance="node-1",mode="idle"}': rising(60 - 0.6 * (cpu - 1))},
                **common | {"labels": one, "since": _STEP, "value": (_PERCENT, f"{cpu + 1:.1f} %")},
            ),
            above(
                "NodeMemory",
                f"100 - 100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > {memory:g}",
                summary=f"node {{{{ $labels.instance }}}} uses more than {memory:g} % of its memory",
                about="node-memory",
                channel="alerts",
                advice="what runs there; soon pods are evicted",
                beyond={available: steady(1000 - 10 * memory - 1), total: steady(1000)},
                within={available: steady(1000 - 10 * memory), total: steady(1000)},
                **common | {"labels": one, "value": (_PERCENT, f"{memory + 0.1:.1f} %")},
            ),
            above(
                "NodeIo",
                f"100 * max by (instance, device) (rate(node_disk_io_time_seconds_total[2m])) > {io:g}",
                summary=f"disk {{{{ $labels.device }}}} of node {{{{ $labels.instance }}}} is busy for {io:g} %",
                about="node-io",
                channel="performance",
                advice="a backup or a restore test may be the reason; else who writes (iotop)",
                beyond={'node_disk_io_time_seconds_total{instance="node-1",device="sda"}': rising(0.6 * (io + 1))},
                within={'node_disk_io_time_seconds_total{instance="node-1",device="sda"}': rising(0.6 * (io - 1))},
                **common
                | {"labels": one | {"device": "sda"}, "since": 2 * _STEP, "value": (_PERCENT, f"{io + 1:.1f} %")},
            ),
            above(
                "NodeDiskFull",
                f"100 - 100 * min by (instance, mountpoint) ({free}) > {limits.disk_percent:g}",
                summary=f"{{{{ $labels.mountpoint }}}} of node {{{{ $labels.instance }}}} is more than "
                f"{limits.disk_percent:g} % full",
                about="node-disk",
                channel="critical",
                advice="images and logs; soon pods are evicted",
                beyond={
                    filesystem % "avail": steady(1000 - 10 * limits.disk_percent - 1),
                    filesystem % "size": steady(1000),
                },
                within={
                    filesystem % "avail": steady(1000 - 10 * limits.disk_percent),
                    filesystem % "size": steady(1000),
                },
                **common
                | {"severity": "critical", "labels": here, "value": (_PERCENT, f"{limits.disk_percent + 0.1:.1f} %")},
            ),
            _fills(
                "NodeDiskFills",
                f"node_filesystem_avail_bytes{real}",
                filesystem % "avail",
                monitoring,
                what="{{ $labels.mountpoint }} of node {{ $labels.instance }}",
                labels=here,
                missing="no node at all: `MetricsMissing`",
                lasting=limits.lasting_seconds,
            ),
        ),
    )


def _fills(
    name: str,
    metric: str,
    series: str,
    monitoring: Monitoring,
    *,
    what: str,
    labels: dict[str, str],
    missing: str,
    lasting: int,
) -> Alert:
    """A line through the last hours, drawn on: below 0 at its end?"""
    limits = monitoring.infrastructure
    span, ahead = int(limits.disk_trend_hours * 3600), int(limits.disk_full_hours * 3600)
    step = max(_STEP, span // 60 // _STEP * _STEP)
    since = ceil(span / step) * step

    def full_at(second: int) -> str:
        return f"1e9-{1e9 * step / second:.12g}x1000"

    return above(
        name,
        f"min by ({', '.join(labels)}) (predict_linear({metric}[{span}s], {ahead})) < 0",
        lasting=lasting,
        since=since,
        severity="warning",
        summary=f"{what} is full within {limits.disk_full_hours:g} h if it goes on like that",
        about="disk" if name == "VolumeFills" else "node-disk",
        channel="alerts",
        chapter=_CHAPTER,
        missing=missing,
        advice="find what fills it; make it larger before it is",
        beyond={series: full_at(since + ahead - step // 2)},
        within={series: full_at(since + ahead + ceil(lasting / step) * step + 5 * step)},
        labels=labels,
        step=step,
        also=(
            Case(title="it does not fill", series={series: steady(1)}, checks=((since + lasting, False),), step=step),
        ),
    )
