"""Whether everything that a stack may run at one time fits the namespace's quota."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from settings.backup import VolumeDestination, test_servers
from settings.base import quantity
from settings.lockdown import GATE_RESOURCES
from settings.maintenance import PAGE_RESOURCES
from settings.platform import BundledPostgres, BundledRedis
from settings.problems import Problem
from settings.rotation import TASK_RESOURCES
from settings.status_page import RESOURCES as STATUS_PAGE_RESOURCES

if TYPE_CHECKING:
    from settings.application import Application
    from settings.backup import Backup
    from settings.consistency import StackFile
    from settings.maintenance_tasks import MaintenanceTasks
    from settings.monitoring import Monitoring
    from settings.performance import Performance
    from settings.platform import Data, Guards
    from settings.status_page import StatusPage


def find_quota_excess(
    application: Application,
    data: Data,
    backup: Backup | None,
    monitoring: Monitoring | None,
    maintenance_tasks: MaintenanceTasks | None,
    status_page: StatusPage | None,
    performance: Performance | None,
    guards: Guards,
    file: StackFile,
) -> Iterator[Problem]:
    """A rollout needs more pods of every service for a while, and Jobs run beside them."""
    pods = [(s.pod_resources, s.most_replicas + application.surge) for s in application.services]
    pods.append((application.job_resources, 2))
    if application.services:
        pods += [(one.resources, 2) for one in application.main_service.before if one.in_jobs]
    stores = [store for store in (data.postgres, data.redis) if isinstance(store, BundledPostgres | BundledRedis)]
    pods += [(store.resources, 1) for store in stores]
    # The database's and the cache's Job side by side, or one of them and what an operator asks.
    pods.append((TASK_RESOURCES, 2))
    # The lockdown gate during its rollout, and the maintenance page: the quota must not refuse them in an emergency.
    pods += [(GATE_RESOURCES, 4), (PAGE_RESOURCES, 3)]
    volumes = [*(store.storage for store in stores), *(volume.size for volume in data.volumes.values())]
    if backup:
        # A restore test has its own servers and one pod of the release. Beside it: a scheduled backup, one before
        # a release, a restore, the exporter; and in it one task or Job at a time.
        pods += [(store.resources, 1) for store in test_servers(data, backup.restore_test) if store]
        pods += [(application.main_service.pod_resources, 1)] if application.services else []
        pods += [(application.job_resources, 1), (backup.resources, 5)]
        # One that runs, and what the last Job that went well and the last that failed still hold.
        volumes += [backup.scratch] * (10 if backup.format == "directory" else 5)
        volumes += [backup.destination.size] if isinstance(backup.destination, VolumeDestination) else []
    # Two pods, and one more during its rollout.
    pods += [(STATUS_PAGE_RESOURCES, 3)] if status_page else []
    if maintenance_tasks:
        pods += [(maintenance_tasks.resources, 1), (application.job_resources, 1)]
    measuring = performance if performance and performance.continuous else None
    pods += [(measuring.resources, 1)] if measuring else []
    if monitoring:
        # HTTP checks, PostgreSQL, Redis.
        pods.append((monitoring.exporter_resources, 3))
        pods += [(monitoring.rollback.resources, 1)] if monitoring.rollback.controlled else []
        pods += [(monitoring.logs.resources, 1)] if monitoring.logs else []
        if monitoring.mode == "plain":
            pods += [(server.resources, 1) for server in (monitoring.prometheus, monitoring.alertmanager)]
            volumes += [server.storage for server in (monitoring.prometheus, monitoring.alertmanager)]
    quota = guards.quota
    for key, have, side, amount in (
        ("cpu", quota.cpu, "requests", "cpu"),
        ("memory", quota.memory, "requests", "memory"),
        ("limitsCpu", quota.limits_cpu, "limits", "cpu"),
        ("limitsMemory", quota.limits_memory, "limits", "memory"),
    ):
        need = sum(quantity(getattr(getattr(resources, side), amount)) * count for resources, count in pods)
        if need > quantity(have):
            written = f"{ceil(need / 2**30)}Gi" if amount == "memory" else str(ceil(need))
            more = ", backups, a restore and its test" if backup else ""
            more += ", page checks" if measuring else ""
            more += ", monitoring" if monitoring else ""
            why = (
                "all services with the surge of a rollout, Jobs, data services, the lockdown gate, the maintenance page"
                f"{more} need {written} ({side}.{amount})"
            )
            yield _too_small(file, key, why, have, written)
    storage = sum(quantity(size) for size in volumes)
    if storage > quantity(quota.storage):
        written = f"{ceil(storage / 2**30)}Gi"
        yield _too_small(file, "storage", f"the volumes need {written}", quota.storage, written)


def _too_small(file: StackFile, key: str, why: str, have: str, need: str) -> Problem:
    return Problem(("runbook:guards", "quota", key), why, have, need, file.values.get("runbook:guards"))
