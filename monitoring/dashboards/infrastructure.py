"""CPU, memory, I/O, disks, CronJobs, certificates (Runbook de Production §6), and what the monitoring itself sees."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.dashboards.board import WIDTH, Board, Measured, Panel, Query, Row, Word, graph, number
from settings.monitoring import Monitoring

_CONTAINER = "{{pod}} {{container}}"


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
        yield Row("Pods and CronJobs", _workloads())
    if limits.nodes:
        yield Row("Nodes", _nodes(monitoring))
    yield Row("Certificate and targets", _edges())


def _containers(monitoring: Monitoring) -> tuple[Panel, ...]:
    limits = monitoring.infrastructure
    free = "kubelet_volume_stats_available_bytes{}"
    return (
        graph("CPU, of its limit", "percent", Measured("ContainerCpu", _CONTAINER)),
        graph("Throttled", "percent", Measured("ContainerThrottled", _CONTAINER)),
        graph("Memory, of its limit", "percent", Measured("ContainerMemory", _CONTAINER)),
        graph(
            "Ended for want of memory within 10 min",
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
            "Free on volumes", "bytes", Query(f"min by (persistentvolumeclaim) ({free})", "{{persistentvolumeclaim}}")
        ),
    )


def _workloads() -> tuple[Panel, ...]:
    return (
        graph(
            "Restarts within an hour",
            "short",
            Measured("PodRestarts", _CONTAINER),
        ),
        graph(
            "CronJobs behind their schedule",
            "s",
            Measured("CronJobMissed", "{{cronjob}}"),
            about="Nothing until its time has come. A suspended one misses nothing.",
        ),
        graph(
            "Since a CronJob has succeeded",
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
            "I/O: time a disk is busy",
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


def _edges() -> tuple[Panel, ...]:
    return (
        number(
            "Certificate ends in",
            "d",
            Measured("CertificateEndsSoon", also="CertificateEnds"),
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
