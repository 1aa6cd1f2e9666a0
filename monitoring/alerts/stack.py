"""Every alert of one stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from monitoring.alerts.cluster import certificates, workloads
from monitoring.alerts.data import postgres, redis
from monitoring.alerts.infrastructure import containers, nodes
from monitoring.alerts.logs import logs
from monitoring.alerts.maintenance import maintenance_runs
from monitoring.alerts.release import triggers
from monitoring.alerts.rule import Domain, within
from monitoring.alerts.scaling import autoscalers
from monitoring.alerts.schedules import backups, rotations
from monitoring.alerts.self_monitoring import watching
from monitoring.alerts.service import service
from monitoring.alerts.slo import slo
from settings.backup import Backup
from settings.lockdown import Lockdown
from settings.maintenance import Maintenance
from settings.maintenance_tasks import MaintenanceTasks
from settings.monitoring import Monitoring
from settings.rotation import SecretRotation


def domains(
    namespace: str,
    monitoring: Monitoring,
    backup: Backup | None,
    rotating: Mapping[str, SecretRotation],
    maintenance: Maintenance | None = None,
    lockdown: Lockdown | None = None,
    tasks: MaintenanceTasks | None = None,
) -> tuple[Domain, ...]:
    """The alerts of a stack, by subject, narrowed to its namespace."""
    found = _domains(monitoring, backup, rotating, maintenance, lockdown, tasks)
    return tuple(within(domain, namespace) for domain in found)


def _domains(
    monitoring: Monitoring,
    backup: Backup | None,
    rotating: Mapping[str, SecretRotation],
    maintenance: Maintenance | None,
    lockdown: Lockdown | None,
    tasks: MaintenanceTasks | None,
) -> Iterator[Domain]:
    infrastructure = monitoring.infrastructure
    yield triggers(monitoring)
    yield service(monitoring)
    yield slo(monitoring)
    yield postgres(monitoring)
    yield redis(monitoring)
    if infrastructure.kubelet:
        yield containers(monitoring)
    if infrastructure.nodes:
        yield nodes(monitoring)
    if infrastructure.kube_state:
        yield workloads(monitoring)
        yield autoscalers(monitoring)
    yield certificates(monitoring)
    if backup:
        yield backups(backup)
        # Both come from the same exporter.
        yield rotations(rotating)
        if tasks:
            yield maintenance_runs(tasks, tasks.zone(backup))
    if monitoring.logs:
        yield logs(monitoring, monitoring.logs)
    yield watching(monitoring, maintenance, lockdown, backups=backup is not None)
