"""A database that is a file on a volume of the services (runbook-de-production §2, copy of the `.db`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from settings.base import DnsLabel, Path, Settings
from settings.pods import PodShape, VolumeMount
from settings.problems import Problem

if TYPE_CHECKING:
    from settings.application import Application, Service
    from settings.backup import Backup
    from settings.platform import Data

BESIDE = "runbook/claim"
"""Label of every pod that has the file open. They run on one node, because a ReadWriteOnce volume is on one, and
because SQLite's locks hold on one machine only."""


class Sqlite(Settings):
    """SQLite in place of PostgreSQL: a file on a volume that the main service mounts."""

    volume: Annotated[DnsLabel, Field(examples=["database"])]
    """Name of the volume in `runbook:data.volumes`; `pod.volumes` of the main service mounts it, and of other services
    that open the file."""
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", examples=["shop.db"])]
    """Name of the file in that volume."""
    scheme: Literal["sqlite", "file"] = "sqlite"
    """How `DATABASE_URL` names it: `sqlite:////app/data/shop.db` (SQLAlchemy, Django) or `file:/app/data/shop.db`
    (Prisma)."""

    def find_mount(self, service: Service) -> VolumeMount | None:
        """Where a service has the volume."""
        return next((mount for mount in service.shape.volumes if mount.name == self.volume), None)

    def url(self, mount: VolumeMount) -> str:
        """`DATABASE_URL` of the pods that have the volume there."""
        start = "sqlite:///" if self.scheme == "sqlite" else "file:"
        return f"{start}{mount.path}/{self.file}"


def place_beside(application: Application, data: Data) -> Application:
    """The services, with the label that keeps those on one node that have the file."""
    sqlite = data.sqlite
    if sqlite is None:
        return application

    def placed(service: Service) -> Service:
        if sqlite.find_mount(service) is None:
            return service
        labels = {**service.shape.labels, BESIDE: sqlite.volume}
        return service.model_copy(update={"pod": service.shape.model_copy(update={"labels": labels})})

    return application.model_copy(update={"services": tuple(placed(service) for service in application.services)})


def shape_of_tasks(application: Application, data: Data, *, opens: bool) -> PodShape | None:
    """Pods of tasks, where there is a file to back up: they run as its owner. `opens`: they have the volume, at the
    same place as the main service."""
    if data.sqlite is None:
        return None
    main = application.main_service
    mount = data.sqlite.find_mount(main)
    user = {name: getattr(main.shape, name) for name in ("uid", "gid", "fs_group")}
    return PodShape(**user, volumes=(mount,), labels={BESIDE: mount.name}) if opens and mount else PodShape(**user)


def database_url(application: Application, data: Data) -> str | None:
    """`DATABASE_URL` of a stack with SQLite."""
    mount = data.sqlite and data.sqlite.find_mount(application.main_service)
    return data.sqlite.url(mount) if data.sqlite and mount else None


def find_faults_of_sqlite(application: Application, data: Data, backup: Backup | None) -> Iterator[Problem]:
    """The file is where the main service has it, and nothing asks for what only a server has."""
    sqlite = data.sqlite
    if sqlite is None:
        return
    if not application.services:
        why = "needs runbook:application: the database is a file of its main service"
        yield Problem(("runbook:data", "sqlite"), why)
        return
    if sqlite.volume not in data.volumes:
        have = ", ".join(sorted(data.volumes)) or "none"
        why = f"no such volume; runbook:data.volumes has: {have}"
        yield Problem(("runbook:data", "sqlite", "volume"), why, sqlite.volume)
    main, places = application.main_service, set[str]()
    for index, service in enumerate(application.services):
        where: Path = ("runbook:application", "services", index, "pod")
        mount = sqlite.find_mount(service)
        if mount is None:
            if service.name == main.name:
                why = f"{main.name} does not mount {sqlite.volume}, which has the database"
                yield Problem((*where, "volumes"), why, None, [{"name": sqlite.volume, "path": "/app/data"}])
            continue
        places.add(mount.path)
        if mount.read_only:
            yield Problem((*where, "volumes"), f"{sqlite.volume} has the database, which is written to", True, False)
        if service.shape.affinity:
            why = f"pods of {service.name} have to run on the node with the file of their database: remove it"
            yield Problem((*where, "affinity"), why, service.shape.affinity)
        if service.autoscaler:
            why = f"pods of {service.name} run on one node, that with the file of their database: set replicas instead"
            yield Problem(("runbook:application", "services", index, "autoscaler"), why)
        if service.shape.spread == "required":
            why = f"pods of {service.name} run on one node, that with the file of their database"
            yield Problem((*where, "spread"), why, "required", "preferred")
    if len(places) > 1:
        why = f"services mount {sqlite.volume} at {', '.join(sorted(places))}, and DATABASE_URL names one place"
        yield Problem(("runbook:data", "sqlite", "volume"), why, sqlite.volume)
    if backup and backup.own_login:
        yield Problem(("runbook:backup", "ownLogin"), "SQLite has no logins: remove it", True, False)
    if backup and backup.restore_test.postgres_image:
        why = "the restore test of SQLite has no server: remove it"
        yield Problem(("runbook:backup", "restoreTest", "postgresImage"), why, backup.restore_test.postgres_image)
