"""CPU, memory, I/O, disks, CronJobs, certificates (Runbook de Production §6), and scrape targets."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from monitoring.dashboards.board import WIDTH, Board, Measured, Panel, Query, Row, Word, graph, number
from settings.monitoring import Monitoring

_CONTAINER = "{{pod}} {{container}}"


def infrastructure(monitoring: Monitoring, alerts: Collection[str]) -> Board:
    """`alerts`: those that the stack has."""
    return Board(
        slug="infrastructure",
        title="Infrastructure",
        about="Containers, nodes, volumes, CronJobs, certificates and scrape targets.",
        since="now-6h",
        domains=("containers", "nodes", "workloads", "autoscalers", "certificates", "watching"),
        rows=tuple(_rows(monitoring, alerts)),
    )


def _rows(monitoring: Monitoring, alerts: Collection[str]) -> Iterator[Row]:
    limits = monitoring.infrastructure
    if limits.kubelet:
        yield Row("Containers", _containers(monitoring))
    if limits.kube_state:
        yield Row("Pods and CronJobs", _workloads(alerts))
    if limits.nodes:
        yield Row("Nodes", _nodes(monitoring))
    yield Row("Certificate and targets", _edges(alerts))


def _containers(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    free = "kubelet_volume_stats_available_bytes{}"
    return (
        graph("CPU usage, of the limit", "percent", Measured("ContainerCpu", _CONTAINER)),
        graph("Throttled", "percent", Measured("ContainerThrottled", _CONTAINER)),
        graph("Memory usage, of the limit", "percent", Measured("ContainerMemory", _CONTAINER)),
        graph(
            "OOM-killed containers within 10 min",
            "short",
            Measured("ContainerOutOfMemory", _CONTAINER),
        ),
        graph(
            "Volumes",
            "percent",
            Measured("VolumeFull", "{{persistentvolumeclaim}}"),
            about=f"`VolumeFills` fires on the trend: full within {limits.disk_full_hours:g} h.",
        ),
        graph(
            "Free space on volumes",
            "bytes",
            Query(f"min by (persistentvolumeclaim) ({free})", "{{persistentvolumeclaim}}"),
        ),
    )


def _workloads(alerts: Collection[str]) -> tuple[Panel, ...]:
    restarts = graph("Restarts within an hour", "short", Measured("PodRestarts", _CONTAINER))
    if "CronJobMissed" not in alerts:
        return (restarts,)
    return (
        restarts,
        graph(
            "CronJobs behind their schedule",
            "s",
            Measured("CronJobMissed", "{{cronjob}}"),
            about="No data before the first scheduled time, or while the CronJob is suspended.",
        ),
        graph(
            "Time since the last success of a CronJob",
            "s",
            Query("time() - max by (cronjob) (kube_cronjob_status_last_successful_time{})", "{{cronjob}}"),
        ),
    )


def _nodes(monitoring: Monitoring) -> tuple[Panel, ...]:
    hours = monitoring.infrastructure.disk_full_hours
    return (
        graph(
            "CPU",
            "percent",
            Measured("NodeCpu", "{{instance}}"),
            width=12,
        ),
        graph(
            "Memory",
            "percent",
            Measured("NodeMemory", "{{instance}}"),
            width=12,
        ),
        graph(
            "Disk I/O utilization",
            "percent",
            Measured("NodeIo", "{{instance}} {{device}}"),
            width=12,
        ),
        graph(
            "Disks",
            "percent",
            Measured("NodeDiskFull", "{{instance}} {{mountpoint}}"),
            width=12,
            about=f"`NodeDiskFills` fires on the trend: full within {hours:g} h.",
        ),
    )


def _edges(alerts: Collection[str]) -> tuple[Panel, ...]:
    certificate = number(
        "Certificate expires in",
        "d",
        Measured("CertificateEndsSoon", also="CertificateEnds"),
        width=6,
        empty="no TLS",
    )
    targets = Panel(
        title="Scrape targets",
        queries=(Query("min by (job) (up{})", "{{job}}"),),
        kind="timeline",
        width=WIDTH - 6,
        words={0: Word(text="down", color="red"), 1: Word(text="up", color="green")},
    )
    return (certificate, targets) if "CertificateEnds" in alerts else (targets,)
