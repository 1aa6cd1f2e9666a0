"""Every alert of one stack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from monitoring.alerts.cluster import certificates, workloads
from monitoring.alerts.data import postgres, redis
from monitoring.alerts.infrastructure import containers, nodes
from monitoring.alerts.logs import logs
from monitoring.alerts.maintenance import maintenance_runs
from monitoring.alerts.pages import pages
from monitoring.alerts.release import triggers
from monitoring.alerts.rule import Domain, within
from monitoring.alerts.scaling import autoscalers
from monitoring.alerts.schedules import backups, rotations
from monitoring.alerts.self_monitoring import watching
from monitoring.alerts.service import front_door, service
from monitoring.alerts.slo import slo
from settings.backup import Backup
from settings.lockdown import Lockdown
from settings.maintenance import Maintenance
from settings.maintenance_tasks import MaintenanceTasks
from settings.monitoring import Monitoring
from settings.performance import Performance
from settings.rotation import SecretRotation


def domains(
    namespace: str,
    monitoring: Monitoring,
    services: Iterable[str],
    backup: Backup | None,
    rotating: Mapping[str, SecretRotation],
    maintenance: Maintenance | None = None,
    lockdown: Lockdown | None = None,
    tasks: MaintenanceTasks | None = None,
    performance: Performance | None = None,
) -> tuple[Domain, ...]:
    """The alerts of a stack with these services, by subject, narrowed to its namespace. Without services, nothing of an
    application. `performance`: where pages are measured by schedule."""
    found = _domains(monitoring, services, backup, rotating, maintenance, lockdown, tasks, performance)
    return tuple(_with_links(within(domain, namespace), monitoring.documents_url) for domain in found)


def _with_links(domain: Domain, documents: str | None) -> Domain:
    if not documents:
        return domain
    return replace(domain, alerts=tuple(replace(alert, documents=documents) for alert in domain.alerts))


def _domains(
    monitoring: Monitoring,
    services: Iterable[str],
    backup: Backup | None,
    rotating: Mapping[str, SecretRotation],
    maintenance: Maintenance | None,
    lockdown: Lockdown | None,
    tasks: MaintenanceTasks | None,
    performance: Performance | None,
) -> Iterator[Domain]:
    infrastructure, names = monitoring.infrastructure, tuple(services)
    door = monitoring.front_door.address or ""
    if names:
        yield triggers(monitoring, names)
        yield service(monitoring)
        yield slo(monitoring)
    elif door:
        yield front_door(monitoring)
    if monitoring.postgres:
        yield postgres(monitoring.postgres)
    if monitoring.redis:
        yield redis(monitoring.redis)
    if infrastructure.kubelet:
        yield containers(monitoring)
    if infrastructure.nodes:
        yield nodes(monitoring)
    if infrastructure.kube_state:
        # Every CronJob that runs by schedule has its results in the store of backups.
        yield workloads(monitoring, scheduled=backup is not None)
        if names:
            yield autoscalers(monitoring)
    if names or door.startswith("https:"):
        yield certificates(monitoring)
    if backup:
        yield backups(backup)
        # Both come from the same exporter.
        yield rotations(rotating)
        if tasks:
            yield maintenance_runs(tasks, tasks.zone(backup))
        if performance and performance.continuous:
            yield pages(performance, performance.continuous)
    if monitoring.logs:
        yield logs(monitoring, monitoring.logs)
    yield watching(monitoring, maintenance, lockdown, backups=backup is not None, application=bool(names))
