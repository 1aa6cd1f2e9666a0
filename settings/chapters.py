"""Chapters of a stack file are optional, but some need another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from settings.base import Path
from settings.problems import Problem, missing

if TYPE_CHECKING:
    from settings.application import Application
    from settings.backup import Backup
    from settings.consistency import StackFile
    from settings.go_live import GoLive
    from settings.maintenance_tasks import MaintenanceTasks
    from settings.monitoring import Monitoring
    from settings.performance import Performance
    from settings.platform import Data, Ingress, Network
    from settings.release import Release

_DATABASE = {"mode": "external", "egress": [{"cidr": "10.0.5.0/24", "ports": [5432]}]}
_OUTSIDE = [{"cidr": "203.0.113.0/24", "ports": [443]}]


def find_missing_chapters(
    application: Application,
    data: Data,
    ingress: Ingress | None,
    network: Network,
    backup: Backup | None,
    monitoring: Monitoring | None,
    maintenance_tasks: MaintenanceTasks | None,
    performance: Performance | None,
    checklist: GoLive | None,
    release: Release | None,
    file: StackFile,
    schema: Callable[[], Mapping[str, Any]],
) -> Iterator[Problem]:
    """A chapter that needs another which is not there."""
    paths = [path for service in application.services for path in service.paths]
    if ingress is None and paths:
        yield missing("ingress", schema())
    if ingress is not None and network.ingress_controller is None:
        why = "is missing: without it, the network policies would close the services to the ingress"
        write = {"namespace": "ingress-nginx", "podLabels": {"app.kubernetes.io/name": "ingress-nginx"}}
        yield _at(file, "network", ("ingressController",), why, None, write)
    if not data.has_database and (application.services or backup or not monitoring):
        why = "is missing: name a PostgreSQL, or a file in sqlite. Only a stack that monitors needs none"
        yield _at(file, "data", ("postgres",), why, None, _DATABASE)
    if not application.services:
        needs = {
            "ingress": ingress,
            "release": release,
            "maintenanceTasks": maintenance_tasks,
            "performance": performance,
            "checklist": checklist,
        }
        for key in (key for key, there in needs.items() if there is not None):
            yield Problem((f"runbook:{key}",), "there is no runbook:application that it could be of: remove it")
    if backup is None:
        if maintenance_tasks:
            why = (
                "needs runbook:backup, because reports of maintenance are kept in the store of backups: add that key, "
                "or remove this one"
            )
            yield Problem(("runbook:maintenanceTasks",), why)
        if performance and performance.continuous:
            why = (
                "needs runbook:backup, because results are kept in the store of backups: add that key, or remove this "
                "one"
            )
            yield Problem(("runbook:performance", "continuous"), why)
    if monitoring is not None and ingress is None and monitoring.front_door.address is None and application.services:
        why = "is missing: without an ingress, monitoring needs the address at which customers reach the application"
        yield _at(file, "monitoring", ("frontDoor", "address"), why, None, "https://shop.example.com")


def find_faults_of_monitoring_alone(
    application: Application,
    data: Data,
    backup: Backup | None,
    monitoring: Monitoring | None,
    network: Network,
    file: StackFile,
) -> Iterator[Problem]:
    """Without an application there are no releases, requests and logs to watch; something else has to be named."""
    if monitoring is None or application.services:
        return
    if monitoring.rollback.image:
        why = (
            "there is no runbook:application whose releases a controller could roll back: remove image, state and "
            "apiServer"
        )
        yield _at(file, "monitoring", ("rollback", "image"), why, monitoring.rollback.image)
    for path, there, what in (
        (("logs",), monitoring.logs, "counts lines of its pods"),
        (("requests", "preset"), monitoring.requests.by_controller, "says who counts requests to its services"),
        (("prometheus", "ingress"), monitoring.gateway, "has metrics of requests to its services"),
        (("unmeasured",), monitoring.unmeasured, "names services of it"),
    ):
        if there:
            yield _at(
                file, "monitoring", path, f"there is no runbook:application, and this {what}: remove it", "a value"
            )
    door, infrastructure = monitoring.front_door, monitoring.infrastructure
    if door.address and not (door.egress or network.egress or network.ingress_controller):
        why = f"is missing: no network policy lets the probe reach {door.address}, so that it would always fail"
        yield _at(file, "monitoring", ("frontDoor", "egress"), why, None, _OUTSIDE)
    sources = (infrastructure.kubelet, infrastructure.nodes, infrastructure.kube_state)
    if not (door.address or data.has_database or data.redis or backup or any(sources)):
        why = (
            "is missing: there is nothing to monitor. Name the public address of an application, a server in "
            "runbook:data, or the cluster's exporters in prometheus.nodes, prometheus.kubelet or prometheus.kubeState"
        )
        yield _at(file, "monitoring", ("frontDoor", "address"), why, None, "https://shop.example.com")


def find_ingress_without_paths(application: Application, ingress: Ingress | None, file: StackFile) -> Iterator[Problem]:
    if ingress and application.services and not any(service.paths for service in application.services):
        why = f"no service has paths, so the ingress of {ingress.host} would route no request"
        yield _at(file, "application", ("services", 0, "paths"), why, [], ["/"])


def _at(file: StackFile, key: str, path: Path, why: str, found: Any, write: Any = None) -> Problem:
    return Problem((f"runbook:{key}", *path), why, found, write, file.values.get(f"runbook:{key}"))
