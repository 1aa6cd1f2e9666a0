"""CPU, memory, I/O, disks, CronJobs, certificates (Runbook de Production §6), and what the monitoring itself sees."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.dashboards.board import WIDTH, Board, Line, Panel, Query, Row, Word, graph, number
from settings.monitoring import Monitoring

_CONTAINER = "{{pod}} {{container}}"
_BY = "sum by (pod, container)"
_MINE = '{container!=""}'
_REAL = '{fstype!~"tmpfs|overlay|squashfs|ramfs"}'


def infrastructure(monitoring: Monitoring) -> Board:
    return Board(
        slug="infrastructure",
        title="Infrastructure",
        about="What the application stands on, and what runs by schedule.",
        since="now-6h",
        watches=("containers", "nodes", "workloads", "certificates", "watching"),
        rows=tuple(_rows(monitoring)),
    )


def _rows(monitoring: Monitoring) -> Iterator[Row]:
    limits = monitoring.infrastructure
    if limits.kubelet:
        yield Row("Containers", _containers(monitoring))
    if limits.kube_state:
        yield Row("Pods and CronJobs", _workloads(monitoring))
    if limits.nodes:
        yield Row("Nodes", _nodes(monitoring))
    yield Row("Certificate and targets", _edges(monitoring))


def _containers(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    free, size = "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"
    return (
        graph(
            "CPU, of its limit",
            "percent",
            Query(
                f"100 * {_BY} (rate(container_cpu_usage_seconds_total{_MINE}[2m])) / "
                f"({_BY} (container_spec_cpu_quota{_MINE}) / {_BY} (container_spec_cpu_period{_MINE}))",
                _CONTAINER,
            ),
            lines=(Line(alert="ContainerCpu", value=limits.cpu_percent),),
        ),
        graph(
            "Throttled",
            "percent",
            Query(
                f"100 * {_BY} (rate(container_cpu_cfs_throttled_periods_total{_MINE}[2m])) / "
                f"{_BY} (rate(container_cpu_cfs_periods_total{_MINE}[2m]))",
                _CONTAINER,
            ),
            lines=(Line(alert="ContainerThrottled", value=limits.throttled_percent),),
        ),
        graph(
            "Memory, of its limit",
            "percent",
            Query(
                f"100 * {_BY} (container_memory_working_set_bytes{_MINE}) / "
                f"{_BY} (container_spec_memory_limit_bytes{_MINE} > 0)",
                _CONTAINER,
            ),
            lines=(Line(alert="ContainerMemory", value=limits.memory_percent),),
        ),
        graph(
            "Ended for want of memory within 10 min",
            "short",
            Query(f"{_BY} (increase(container_oom_events_total{_MINE}[10m]))", _CONTAINER),
            lines=(Line(alert="ContainerOutOfMemory", value=0),),
        ),
        graph(
            "Volumes",
            "percent",
            Query(f"100 - 100 * min by (persistentvolumeclaim) ({free} / {size})", "{{persistentvolumeclaim}}"),
            lines=(Line(alert="VolumeFull", value=limits.disk_percent),),
            about=f"`VolumeFills` fires on the trend: full within {limits.disk_full_hours:g} h.",
        ),
        graph(
            "Free on volumes", "bytes", Query(f"min by (persistentvolumeclaim) ({free})", "{{persistentvolumeclaim}}")
        ),
    )


def _workloads(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    return (
        graph(
            "Restarts within an hour",
            "short",
            Query(f"{_BY} (increase(kube_pod_container_status_restarts_total[1h]))", _CONTAINER),
            lines=(Line(alert="PodRestarts", value=limits.restarts),),
        ),
        graph(
            "CronJobs behind their schedule",
            "s",
            Query("time() - max by (cronjob) (kube_cronjob_next_schedule_time)", "{{cronjob}}"),
            lines=(Line(alert="CronJobMissed", value=limits.cron_grace_seconds),),
            about="Nothing until its time has come. A suspended one misses nothing.",
        ),
        graph(
            "Since a CronJob has succeeded",
            "s",
            Query("time() - max by (cronjob) (kube_cronjob_status_last_successful_time)", "{{cronjob}}"),
        ),
    )


def _nodes(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    free = f"node_filesystem_avail_bytes{_REAL} / node_filesystem_size_bytes{_REAL}"
    return (
        graph(
            "CPU",
            "percent",
            Query('100 - 100 * avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m]))', "{{instance}}"),
            lines=(Line(alert="NodeCpu", value=limits.cpu_percent),),
            width=12,
        ),
        graph(
            "Memory",
            "percent",
            Query("100 - 100 * node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}"),
            lines=(Line(alert="NodeMemory", value=limits.memory_percent),),
            width=12,
        ),
        graph(
            "I/O: time a disk is busy",
            "percent",
            Query(
                "100 * max by (instance, device) (rate(node_disk_io_time_seconds_total[2m]))", "{{instance}} {{device}}"
            ),
            lines=(Line(alert="NodeIo", value=limits.io_percent),),
            width=12,
        ),
        graph(
            "Disks",
            "percent",
            Query(f"100 - 100 * min by (instance, mountpoint) ({free})", "{{instance}} {{mountpoint}}"),
            lines=(Line(alert="NodeDiskFull", value=limits.disk_percent),),
            width=12,
            about=f"`NodeDiskFills` fires on the trend: full within {limits.disk_full_hours:g} h.",
        ),
    )


def _edges(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    days = 'min(probe_ssl_earliest_cert_expiry{job="front-door"} - time()) / 86400'
    return (
        number(
            "Certificate ends in",
            "d",
            days,
            Line(alert="CertificateEndsSoon", value=limits.certificate_days, below=True),
            Line(alert="CertificateEnds", value=limits.certificate_critical_days, below=True),
            width=6,
            empty="no TLS",
        ),
        Panel(
            title="Targets that can be read",
            queries=(Query("min by (job) (up{})", "{{job}}"),),
            kind="timeline",
            width=WIDTH - 6,
            words={0: Word(text="away", color="red"), 1: Word(text="read", color="green")},
        ),
    )
