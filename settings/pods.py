"""How the pods of one service differ from the program's defaults: user, writable folders, volumes, placement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from settings.base import Bytes, DnsLabel, Finding, Path, Settings
from settings.problems import Problem

if TYPE_CHECKING:
    from settings.application import Application
    from settings.consistency import StackFile
    from settings.platform import Data

ROOT = "root is refused: the namespace enforces Pod Security `restricted`. Build the image for a numeric user"
_OWN_LABELS = "app.kubernetes.io/"
_TAKEN_CLAIMS = {"backups", "data-postgres-0", "data-redis-0", "data-prometheus-0", "data-alertmanager-0"}
_OWN_ANNOTATIONS = ("runbook/", "pulumi.com/")

Id = Annotated[int, Field(ge=0, le=2_147_483_647, examples=[1000])]
Folder = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+$", examples=["/app/.cache"])]
"""An absolute path without a trailing slash."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", examples=["registry-login"])]
"""Name of an object that exists already."""


class VolumeMount(Settings):
    """A volume of `runbook:data.volumes` in the pods of a service."""

    name: DnsLabel
    """Its name there."""
    path: Annotated[Folder, Field(examples=["/app/uploads"])]
    """Folder at which the pods have it."""
    read_only: bool = False
    """The service only reads it."""


class Toleration(Settings):
    """A taint of nodes that the pods bear, as Kubernetes writes it."""

    key: str | None = None
    """Key of the taint; without it, with operator `Exists`, every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the value counts."""
    value: str | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; without it, every effect."""
    toleration_seconds: Annotated[int | None, Field(ge=0)] = None
    """Seconds that a pod stays on a node with a `NoExecute` taint."""

    def _findings(self) -> list[Finding]:
        if self.operator == "Exists" and self.value is not None:
            return [Finding(("value",), "operator Exists takes no value: remove it")]
        if self.operator == "Equal" and self.key is None:
            return [Finding(("key",), "is missing: only operator Exists goes without a key", "dedicated")]
        return []


class PodShape(Settings):
    """What the pods of a service have besides the defaults, and the Jobs of a release with them: migration, rehearsal,
    cache and smoke Jobs as the pods of the main service. All of it stays within Pod Security `restricted`: no root, a
    read-only root filesystem, no capabilities."""

    uid: Id | None = None
    """Numeric user of the image. Without it, 10001."""
    gid: Id | None = None
    """Numeric group of the image. Without it, the same number as the user's."""
    fs_group: Id | None = None
    """Group of the files on volumes. Without it, `gid`."""
    writable_paths: Annotated[tuple[Folder, ...], Field(examples=[["/app/.cache"]])] = ()
    """Folders besides /tmp that a pod may write to: empty when it starts, gone with it. What the image has in such a
    folder is hidden."""
    volumes: tuple[VolumeMount, ...] = ()
    """Volumes that outlive the pods."""
    service_account_annotations: Annotated[
        dict[str, str], Field(examples=[{"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/shop"}])
    ] = {}
    """Annotations of the ServiceAccounts of the service and of the release's Jobs, such as a cloud identity: that of
    the service has its name, those of the Jobs are `migrate`, `rehearsal`, `cache`, `smoke`. A restore test has none of
    them, because it would have their rights."""
    node_selector: dict[str, LabelValue] = {}
    """Labels of the nodes on which the pods may run."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that the pods bear."""
    affinity: dict[str, Any] | None = None
    """Affinity of the service's pods as Kubernetes writes it, in place of the program's own: no two on one node if
    there are others."""
    spread: Literal["preferred", "required"] = "preferred"
    """Over zones and nodes. `required`: a pod that would make it uneven waits for a node."""
    priority_class: ObjectName | None = None
    """PriorityClass of the pods; it exists already."""
    labels: dict[str, LabelValue] = {}
    """More labels of the pods."""
    annotations: dict[str, str] = {}
    """More annotations of the pods."""

    def _findings(self) -> list[Finding]:
        found = [
            Finding((alias,), ROOT, 1000)
            for alias, number in (("uid", self.uid), ("gid", self.gid), ("fsGroup", self.fs_group))
            if number == 0
        ]
        taken: dict[str, str] = {"/tmp": "the program"}  # noqa: S108 (a mount point in the pod)
        places: list[tuple[Path, str]] = [
            *((("writablePaths", place), path) for place, path in enumerate(self.writable_paths)),
            *((("volumes", place, "path"), mount.path) for place, mount in enumerate(self.volumes)),
        ]
        for where, path in places:
            if path in taken:
                found.append(Finding(where, f"{path} is already mounted by {taken[path]}: remove it"))
            taken.setdefault(path, str(where[0]))
        names = [mount.name for mount in self.volumes]
        for place, name in enumerate(names):
            if name in names[:place]:
                found.append(Finding(("volumes", place, "name"), f"{name} stands here twice: remove one"))
        found += find_own_metadata(self.labels, self.annotations)
        return found


def find_own_metadata(labels: Iterable[str], annotations: Iterable[str]) -> Iterator[Finding]:
    """Labels and annotations that the program sets itself."""
    for key in labels:
        if key.startswith(_OWN_LABELS):
            yield Finding(("labels", key), "the program sets the labels app.kubernetes.io/*: remove it")
    for key in annotations:
        if key.startswith(_OWN_ANNOTATIONS):
            yield Finding(("annotations", key), "the program sets this annotation: remove it")


class DataVolume(Settings):
    """A volume for the files of services, such as uploads. No backup contains it, but for a SQLite database."""

    size: Bytes
    """Size. It can be raised later, if the storage class expands volumes, and not lowered."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"] = "ReadWriteMany"
    """`ReadWriteOnce` keeps all pods that mount it on one node: production refuses it for a service."""


def find_volumes_of_services(
    environment: str, application: Application, data: Data, file: StackFile
) -> Iterator[Problem]:
    """Services mount volumes that there are, and that more than one of their pods can mount at a time."""
    raw = file.values.get("runbook:application")
    for name in sorted(_TAKEN_CLAIMS & data.volumes.keys()):
        yield Problem(("runbook:data", "volumes", name), f"the program has a claim {name} of its own: rename it", name)
    known = ", ".join(sorted(data.volumes)) or "none"
    for index, service in enumerate(application.services):
        for place, mount in enumerate(service.shape.volumes):
            where = ("runbook:application", "services", index, "pod", "volumes", place, "name")
            volume = data.volumes.get(mount.name)
            if volume is None:
                why = f"no such volume; runbook:data.volumes has: {known}"
                yield Problem(where, why, mount.name, None, raw)
            elif data.sqlite and data.sqlite.volume == mount.name and volume.access_mode == "ReadWriteOnce":
                continue  # its pods run on one node
            elif volume.access_mode == "ReadWriteOncePod" or (
                volume.access_mode == "ReadWriteOnce" and environment == "production"
            ):
                why = (
                    f"{mount.name} is {volume.access_mode}: while pods are replaced, the old one and the new one mount "
                    "it, on nodes of their own. Set accessMode: ReadWriteMany, with a storage class that can"
                )
                yield Problem(("runbook:data", "volumes", mount.name, "accessMode"), why, volume.access_mode)
