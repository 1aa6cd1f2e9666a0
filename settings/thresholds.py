"""Thresholds of what the application stands on (Runbook de Production §6: CPU, RAM, I/O, locks, connections).

The runbook names what is watched and no number; each default says why.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from settings.base import Finding, Seconds, Settings

Percent = Annotated[float, Field(gt=0, le=100, examples=[90])]
_DAY = 86_400


class Security(Settings):
    """Signs of an attack beside SQL injection (HerbisVeritas "Alertes Critiques": SECURITY_INCIDENT)."""

    window_seconds: Seconds = 300
    """Window of the counts, in seconds."""
    refused_logins: Annotated[int, Field(ge=1)] = 50
    """Refused log-ins within it: people mistype, programs guess."""
    refused_webhooks: Annotated[int, Field(ge=1)] = 5
    """Webhooks with a wrong signature within it: nobody mistypes one."""


class Infrastructure(Settings):
    """CPU, memory, I/O, disks, certificates, CronJobs (Runbook de Production §6)."""

    kubelet: bool = True
    """Metrics of kubelets are there: CPU and memory of containers, and volumes that fill, are watched."""
    nodes: bool = True
    """node_exporter is there: CPU, memory, I/O and disks of the nodes are watched."""
    kube_state: bool = True
    """kube-state-metrics is there: CronJobs and restarts are watched."""
    lasting_seconds: Seconds = 600
    """Seconds a shortage has to last: a release or a backup may be busy for a while."""
    cpu_percent: Percent = 90
    """CPU of a container in percent of its limit, or of a node of what it has."""
    throttled_percent: Percent = 25
    """Periods in which a container was throttled, in percent."""
    memory_percent: Percent = 90
    """Memory of a container in percent of its limit, or of a node of what it has; at 100 the container is ended."""
    io_percent: Percent = 90
    """Time in which a node's disk is busy, in percent."""
    disk_percent: Percent = 85
    """A volume or a node's disk so full is told whatever the trend."""
    disk_full_hours: Annotated[float, Field(gt=0, le=24 * 14)] = 24
    """A disk that is full within so many hours, if it goes on filling as it did."""
    disk_trend_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 6
    """Hours that the trend is taken from."""
    certificate_days: Annotated[int, Field(ge=1, le=365)] = 21
    """A certificate that ends within so many days: renewal at two thirds of 90 days has failed for a week."""
    certificate_critical_days: Annotated[int, Field(ge=1, le=365)] = 7
    """The same, and somebody is called."""
    restarts: Annotated[int, Field(ge=1)] = 3
    """Restarts of one container within an hour."""
    cron_grace_seconds: Seconds = 600
    """Seconds after which a CronJob that should have started and did not has missed."""
    target_seconds: Seconds = 60
    """Seconds a target of Prometheus may be away."""

    def _findings(self) -> list[Finding]:
        if self.certificate_critical_days >= self.certificate_days:
            why = f"the critical limit comes first (certificateDays: {self.certificate_days})"
            return [Finding(("certificateCriticalDays",), why, max(1, self.certificate_days // 3))]
        return []


class Postgres(Settings):
    """The database: locks and connections (Runbook de Production §6)."""

    away_seconds: Seconds = 30
    """Seconds it may be away: longer than a restart of a pod that ends well."""
    connections_percent: Percent = 80
    """Connections in use, in percent of `max_connections`."""
    connections_seconds: Seconds = 300
    """Seconds that has to last."""
    exclusive_locks: Annotated[int, Field(ge=0)] = 20
    """Locks that nobody can read beside (AccessExclusiveLock); a migration takes some for a moment."""
    locks_seconds: Seconds = 120
    """Seconds that has to last."""
    deadlocks: Annotated[int, Field(ge=0)] = 3
    """Deadlocks within an hour."""
    transaction_seconds: Annotated[int, Field(ge=1, le=7 * _DAY)] = 600
    """The longest transaction, in seconds: it holds locks, and keeps VACUUM from cleaning. A dump is one, too."""
    replicas: Annotated[int, Field(ge=0, le=16)] = 0
    """Replicas there should be; 0 where there is none."""
    replica_lag_seconds: Seconds = 60
    """Seconds a replica may be behind."""


class Redis(Settings):
    """Cache and sessions: what is evicted logs somebody out."""

    away_seconds: Seconds = 30
    """Seconds it may be away."""
    memory_percent: Percent = 85
    """Memory in use, in percent of `maxmemory` (where there is such a limit)."""
    memory_seconds: Seconds = 300
    """Seconds that has to last."""
    evictions: Annotated[int, Field(ge=0)] = 0
    """Keys evicted for want of memory within five minutes."""
    rejected_connections: Annotated[int, Field(ge=0)] = 0
    """Connections refused because there were too many, within five minutes."""
