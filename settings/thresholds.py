"""Thresholds of the infrastructure (Runbook de Production §6: CPU, RAM, I/O, locks, connections).

The runbook names the subjects and no numbers; each default has a reason.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from settings.base import Finding, Seconds, Settings

Percent = Annotated[float, Field(gt=0, le=100, examples=[90])]
_DAY = 86_400


class Security(Settings):
    """Signs of an attack other than SQL injection (HerbisVeritas "Alertes Critiques": SECURITY_INCIDENT)."""

    window_seconds: Seconds = 300
    """Window of the counts, in seconds."""
    refused_logins: Annotated[int, Field(ge=1)] = 50
    """Refused log-ins within the window: people mistype, programs guess."""
    refused_webhooks: Annotated[int, Field(ge=1)] = 5
    """Webhooks with a wrong signature within the window: a correct sender has none."""


class Infrastructure(Settings):
    """CPU, memory, I/O, disks, certificates, CronJobs (Runbook de Production §6)."""

    kubelet: bool = True
    """Kubelets are scraped: alerts on CPU and memory of containers, and on full volumes."""
    nodes: bool = True
    """node_exporter exists: alerts on CPU, memory, I/O and disks of nodes."""
    kube_state: bool = True
    """kube-state-metrics exists: alerts on CronJobs, restarts and autoscalers."""
    lasting_seconds: Seconds = 600
    """Seconds a shortage must last: releases and backups are busy for a while."""
    cpu_percent: Percent = 90
    """CPU of a container in percent of its limit, or of a node in percent of its capacity."""
    throttled_percent: Percent = 25
    """Periods in which a container was throttled, in percent."""
    memory_percent: Percent = 90
    """Memory, like CPU; at 100 the container is killed."""
    io_percent: Percent = 90
    """Time in which a node's disk is busy, in percent."""
    disk_percent: Percent = 85
    """Usage of a volume or a node's disk, in percent, at which the trend no longer matters."""
    disk_full_hours: Annotated[float, Field(gt=0, le=24 * 14)] = 24
    """Hours within which a disk will be full at the present rate."""
    disk_trend_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 6
    """Hours from which the trend is computed."""
    certificate_days: Annotated[int, Field(ge=1, le=365)] = 21
    """Days before a certificate expires: renewal at two thirds of 90 days has then failed for a week."""
    certificate_critical_days: Annotated[int, Field(ge=1, le=365)] = 7
    """The same, for the critical alert."""
    restarts: Annotated[int, Field(ge=1)] = 3
    """Restarts of one container within an hour."""
    cron_grace_seconds: Seconds = 600
    """Seconds after its schedule at which a CronJob that has not started counts as missed."""
    target_seconds: Seconds = 60
    """Seconds a target of Prometheus may be down."""

    def _findings(self) -> list[Finding]:
        if self.certificate_critical_days >= self.certificate_days:
            why = f"must be lower than the warning (certificateDays: {self.certificate_days})"
            return [Finding(("certificateCriticalDays",), why, max(1, self.certificate_days // 3))]
        return []


class Postgres(Settings):
    """The database: locks and connections (Runbook de Production §6)."""

    away_seconds: Seconds = 30
    """Seconds it may be down: longer than a normal restart of its pod."""
    connections_percent: Percent = 80
    """Connections in use, in percent of `max_connections`."""
    connections_seconds: Seconds = 300
    """Seconds the condition must last."""
    exclusive_locks: Annotated[int, Field(ge=0)] = 20
    """Locks that block readers (AccessExclusiveLock); a migration takes some for a moment."""
    locks_seconds: Seconds = 120
    """Seconds the condition must last."""
    deadlocks: Annotated[int, Field(ge=0)] = 3
    """Deadlocks within an hour."""
    transaction_seconds: Annotated[int, Field(ge=1, le=7 * _DAY)] = 600
    """The longest transaction, in seconds: it holds locks and blocks VACUUM. A dump is one, too."""
    replicas: Annotated[int, Field(ge=0, le=16)] = 0
    """Number of replicas; 0 without replication."""
    replica_lag_seconds: Seconds = 60
    """Seconds a replica may be behind."""


class Redis(Settings):
    """Cache and sessions: evicting a session logs a user out."""

    away_seconds: Seconds = 30
    """Seconds it may be down."""
    connections: Annotated[int, Field(ge=1)] = 8000
    """Connections from which on Redis counts as used up by a release, not as away, when it refuses its exporter: 80 %
    of the default of `maxclients`. Its login may not read the server's own value."""
    memory_percent: Percent = 85
    """Memory in use, in percent of `maxmemory` (if it has one)."""
    memory_seconds: Seconds = 300
    """Seconds the condition must last."""
    evictions: Annotated[int, Field(ge=0)] = 0
    """Keys evicted within five minutes because memory was full."""
    rejected_connections: Annotated[int, Field(ge=0)] = 0
    """Connections refused within five minutes because there were too many."""
