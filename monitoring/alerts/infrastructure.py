"""CPU, memory, I/O and disks (Runbook de Production §6: "métriques infra (CPU, RAM, I/O)").

Containers and volumes come from the kubelet; nodes from node_exporter, where the cluster has it.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from monitoring.alerts.out_of_memory import out_of_memory
from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady
from monitoring.alerts.rule import PERCENT, Alert, Domain
from settings.monitoring import Monitoring

_CHAPTER = "Runbook de Production §6: métriques infra (CPU, RAM, I/O)"
EVERY, _STEP = 30, 60
_ONE = 'pod="backend-1",container="backend"'
_LABELS = {"pod": "backend-1", "container": "backend"}
_CLAIM = {"persistentvolumeclaim": "data-postgres-0"}
_STEADY = 4
"""How many times more slowly a third of the hours may fill a volume than all of them."""
_NO_USAGE = "some storage reports no usage: watch such volumes where they are"


def containers(monitoring: Monitoring) -> Domain:
    limits = monitoring.infrastructure
    cpu, throttled, memory = limits.cpu_percent, limits.throttled_percent, limits.memory_percent
    common: dict[str, Any] = {
        "operator": ">",
        "chapter": _CHAPTER,
        "missing": "a container without a limit has no percentage; without containers: `MetricsMissing`",
    }
    used, quota = f"container_cpu_usage_seconds_total{{{_ONE}}}", f"container_spec_cpu_quota{{{_ONE}}}"
    limited = {quota: steady(100_000), f"container_spec_cpu_period{{{_ONE}}}": steady(100_000)}
    slowed, periods = (f"container_cpu_cfs_{kind}_total{{{_ONE}}}" for kind in ("throttled_periods", "periods"))
    working, most = f"container_memory_working_set_bytes{{{_ONE}}}", f"container_spec_memory_limit_bytes{{{_ONE}}}"
    by = "sum by (pod, container)"
    mine = '{container!=""}'
    return Domain(
        name="containers",
        title="Containers and volumes",
        every=EVERY,
        alerts=(
            Alert(
                name="ContainerCpu",
                measure=f"100 * {by} (rate(container_cpu_usage_seconds_total{mine}[2m])) / "
                f"({by} (container_spec_cpu_quota{mine}) / {by} (container_spec_cpu_period{mine}))",
                limit=cpu,
                lasting=limits.lasting_seconds,
                severity="warning",
                summary=f"{{{{ $labels.pod }}}} ({{{{ $labels.container }}}}) uses over {cpu:g} % of its CPU limit",
                about="cpu",
                channel="performance",
                advice="add replicas or raise the limit; the dashboard `Release overview` shows if a release caused it",
                value=PERCENT,
                boundary=Boundary(
                    beyond={used: rising(0.6 * cpu + 0.06), **limited},
                    within={used: rising(0.6 * cpu - 0.06), **limited},
                    step=_STEP,
                    since=2 * _STEP,
                    labels=_LABELS,
                    value=f"{cpu + 0.1:.1f} %",
                ),
                **common,
            ),
            Alert(
                name="ContainerThrottled",
                measure=f"100 * {by} (rate(container_cpu_cfs_throttled_periods_total{mine}[2m])) / "
                f"{by} (rate(container_cpu_cfs_periods_total{mine}[2m]))",
                limit=throttled,
                lasting=limits.lasting_seconds,
                severity="warning",
                summary="{{ $labels.pod }} ({{ $labels.container }}) is throttled in more than "
                f"{throttled:g} % of its CPU periods",
                about="throttling",
                channel="performance",
                advice="raise the CPU limit; answers get slow long before CPU is at 100 %",
                value=PERCENT,
                boundary=Boundary(
                    beyond={slowed: rising(6 * throttled + 6), periods: rising(600)},
                    within={slowed: rising(6 * throttled), periods: rising(600)},
                    step=_STEP,
                    since=_STEP,
                    labels=_LABELS,
                    value=f"{throttled + 1:.1f} %",
                ),
                **common,
            ),
            Alert(
                name="ContainerMemory",
                measure=f"100 * {by} (container_memory_working_set_bytes{mine}) / "
                f"{by} (container_spec_memory_limit_bytes{mine} > 0)",
                limit=memory,
                lasting=limits.lasting_seconds,
                severity="warning",
                summary="{{ $labels.pod }} ({{ $labels.container }}) uses more than "
                f"{memory:g} % of its memory limit",
                about="memory",
                channel="alerts",
                advice="at 100 % it is killed (OOMKilled): raise the limit, or find a leak since the last release",
                value=PERCENT,
                boundary=Boundary(
                    beyond={working: steady(10 * memory + 1), most: steady(1000)},
                    within={working: steady(10 * memory), most: steady(1000)},
                    step=_STEP,
                    labels=_LABELS,
                    value=f"{memory + 0.1:.1f} %",
                ),
                **common,
            ),
            out_of_memory(monitoring),
            _fills(
                "VolumeFills",
                "kubelet_volume_stats_available_bytes{}",
                'kubelet_volume_stats_available_bytes{persistentvolumeclaim="data-postgres-0"}',
                monitoring,
                what="volume {{ $labels.persistentvolumeclaim }}",
                about="disk",
                labels=_CLAIM,
                missing=_NO_USAGE,
            ),
            _volume_full(monitoring),
        ),
    )


def _volume_full(monitoring: Monitoring) -> Alert:
    limit = monitoring.infrastructure.disk_percent
    claim = '{persistentvolumeclaim="data-postgres-0"}'
    free, size = f"kubelet_volume_stats_available_bytes{claim}", f"kubelet_volume_stats_capacity_bytes{claim}"
    return Alert(
        name="VolumeFull",
        measure="100 - 100 * min by (persistentvolumeclaim) (kubelet_volume_stats_available_bytes{} / "
        "kubelet_volume_stats_capacity_bytes{})",
        operator=">",
        limit=limit,
        lasting=60,
        severity="critical",
        summary=f"volume {{{{ $labels.persistentvolumeclaim }}}} is more than {limit:g} % full",
        about="disk",
        channel="critical",
        chapter=_CHAPTER,
        missing=_NO_USAGE,
        advice="enlarge the volume (`storage` in the stack file), or find what fills it",
        value=PERCENT,
        boundary=Boundary(
            beyond={free: steady(1000 - 10 * limit - 1), size: steady(1000)},
            within={free: steady(1000 - 10 * limit), size: steady(1000)},
            step=_STEP,
            labels=_CLAIM,
            value=f"{limit + 0.1:.1f} %",
        ),
    )


def nodes(monitoring: Monitoring) -> Domain:
    limits = monitoring.infrastructure
    cpu, memory, io, disk = limits.cpu_percent, limits.memory_percent, limits.io_percent, limits.disk_percent
    common: dict[str, Any] = {
        "operator": ">",
        "lasting": limits.lasting_seconds,
        "chapter": _CHAPTER,
        "missing": "without nodes: `MetricsMissing`",
        "value": PERCENT,
    }
    one = {"instance": "node-1"}
    idle = 'node_cpu_seconds_total{instance="node-1",mode="idle"}'
    busy = 'node_disk_io_time_seconds_total{instance="node-1",device="sda"}'
    free, size = (
        f'node_filesystem_{of}_bytes{{instance="node-1",mountpoint="/",fstype="ext4"}}' for of in ("avail", "size")
    )
    here = {"instance": "node-1", "mountpoint": "/"}
    real = '{fstype!~"tmpfs|overlay|squashfs|ramfs"}'
    total = 'node_memory_MemTotal_bytes{instance="node-1"}'
    available = 'node_memory_MemAvailable_bytes{instance="node-1"}'
    return Domain(
        name="nodes",
        title="Nodes",
        every=EVERY,
        shared=True,
        alerts=(
            Alert(
                name="NodeCpu",
                measure='100 - 100 * avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m]))',
                limit=cpu,
                severity="warning",
                summary=f"node {{{{ $labels.instance }}}} uses more than {cpu:g} % of its CPU",
                about="node-cpu",
                channel="performance",
                advice="find what runs there; add a node, or lower CPU requests",
                boundary=Boundary(
                    beyond={idle: rising(60 - 0.6 * (cpu + 1))},
                    within={idle: rising(60 - 0.6 * (cpu - 1))},
                    step=_STEP,
                    since=_STEP,
                    labels=one,
                    value=f"{cpu + 1:.1f} %",
                ),
                **common,
            ),
            Alert(
                name="NodeMemory",
                measure="100 - 100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
                limit=memory,
                severity="warning",
                summary=f"node {{{{ $labels.instance }}}} uses more than {memory:g} % of its memory",
                about="node-memory",
                channel="alerts",
                advice="find what runs there: when memory is full, pods are evicted",
                boundary=Boundary(
                    beyond={available: steady(1000 - 10 * memory - 1), total: steady(1000)},
                    within={available: steady(1000 - 10 * memory), total: steady(1000)},
                    step=_STEP,
                    labels=one,
                    value=f"{memory + 0.1:.1f} %",
                ),
                **common,
            ),
            Alert(
                name="NodeIo",
                measure="100 * max by (instance, device) (rate(node_disk_io_time_seconds_total[2m]))",
                limit=io,
                severity="warning",
                summary="disk {{ $labels.device }} of node {{ $labels.instance }} is busy for more than "
                f"{io:g} % of the time",
                about="node-io",
                channel="performance",
                advice="a backup or a restore test may be the cause; otherwise iotop shows what writes",
                boundary=Boundary(
                    beyond={busy: rising(0.6 * (io + 1))},
                    within={busy: rising(0.6 * (io - 1))},
                    step=_STEP,
                    since=2 * _STEP,
                    labels=one | {"device": "sda"},
                    value=f"{io + 1:.1f} %",
                ),
                **common,
            ),
            Alert(
                name="NodeDiskFull",
                measure="100 - 100 * min by (instance, mountpoint) "
                f"(node_filesystem_avail_bytes{real} / node_filesystem_size_bytes{real})",
                limit=disk,
                severity="critical",
                summary=f"{{{{ $labels.mountpoint }}}} of node {{{{ $labels.instance }}}} is more than {disk:g} % full",
                about="node-disk",
                channel="critical",
                advice="remove unused images and logs: when the disk is full, pods are evicted",
                boundary=Boundary(
                    beyond={free: steady(1000 - 10 * disk - 1), size: steady(1000)},
                    within={free: steady(1000 - 10 * disk), size: steady(1000)},
                    step=_STEP,
                    labels=here,
                    value=f"{disk + 0.1:.1f} %",
                ),
                **common,
            ),
            _fills(
                "NodeDiskFills",
                f"node_filesystem_avail_bytes{real}",
                free,
                monitoring,
                what="{{ $labels.mountpoint }} of node {{ $labels.instance }}",
                about="node-disk",
                labels=here,
                missing="without nodes: `MetricsMissing`",
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
    about: str,
    labels: dict[str, str],
    missing: str,
) -> Alert:
    """Whether the trend of the last hours reaches 0 free bytes within the limit, and each third of them has a part in
    it: a backup takes its space at once."""
    limits = monitoring.infrastructure
    lasting = limits.lasting_seconds
    span, ahead = int(limits.disk_trend_hours * 3600), int(limits.disk_full_hours * 3600)
    step = max(_STEP, span // 60 // _STEP * _STEP)
    since = ceil(span / step) * step

    def full_at(second: int) -> str:
        return f"1e9-{1e9 * step / second:.12g}x1000"

    third, by = span // 3, f"min by ({', '.join(labels)})"
    parts = [f"[{third}s]", *(f"[{third}s] offset {times * third}s" for times in (1, 2))]
    quarters = 3_600 // step
    writes = f"8e8+0x{6 * quarters} {8e8 - 4e8 / quarters:.0f}-{4e8 / quarters:.0f}x{quarters - 1}"
    checks = tuple((at * step, False) for at in range(6 * quarters, 30 * quarters))
    return Alert(
        name=name,
        measure=f"{by} (predict_linear({metric}[{span}s], {ahead}))",
        operator="<",
        after=" ".join(f"and {by} (predict_linear({metric}{part}, {_STEADY * ahead})) < 0" for part in parts),
        lasting=lasting,
        severity="warning",
        summary=f"{what} will be full within {limits.disk_full_hours:g} h at the present rate",
        about=about,
        channel="alerts",
        chapter=_CHAPTER,
        missing=missing,
        advice="find what fills it, or enlarge it before it is full",
        boundary=Boundary(
            beyond={series: full_at(since + ahead - step // 2)},
            within={series: full_at(since + ahead + ceil(lasting / step) * step + 5 * step)},
            step=step,
            since=since,
            labels=labels,
        ),
        more=(
            Case(title="a backup is written to it", series={series: f"{writes} 4e8+0x1000"}, checks=checks, step=step),
            Case(
                title="a backup needs it for an hour", series={series: f"{writes} 8e8+0x1000"}, checks=checks, step=step
            ),
            Case(title="it does not fill", series={series: steady(1)}, checks=((since + lasting, False),), step=step),
        ),
    )
