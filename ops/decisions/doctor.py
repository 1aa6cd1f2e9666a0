"""What a first release needs of a cluster, from the stack's settings; and whether what was measured is enough."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.errors import Refused
from settings import BundledPostgres, BundledRedis, ExternalPostgres, StackSettings, VolumeDestination

if TYPE_CHECKING:
    from ops.adapters.registry import Image

LEAST_KUBERNETES = (1, 30)
"""A pre-stop wait without a shell in the image (`lifecycle.preStop.sleep`) is on by default since."""
LEAST_POSTGRES = 14
_VERBS = ("create", "delete", "list", "patch")
"""What the engine does; who may list and patch may get and watch in every role that people write."""
_NAMESPACED = {
    "": (
        *("configmaps", "limitranges", "persistentvolumeclaims", "resourcequotas", "secrets", "serviceaccounts"),
        "services",
    ),
    "apps": ("deployments", "statefulsets"),
    "batch": ("cronjobs", "jobs"),
    "coordination.k8s.io": ("leases",),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
}


@dataclass(frozen=True)
class Fault:
    """What keeps a first release from working, and the command or line that mends it."""

    what: str
    remedy: str


@dataclass(frozen=True, order=True)
class Right:
    """One right of this identity, as a SelfSubjectAccessReview asks for it."""

    verb: str
    group: str
    resource: str
    namespaced: bool = True

    @property
    def rule(self) -> str:
        """The resource as RBAC and kubectl write it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def list_rights(settings: StackSettings) -> list[Right]:
    """Every right that the program and the command need with these settings."""
    kinds = {group: [*resources] for group, resources in _NAMESPACED.items()}
    if any(service.autoscaler for service in settings.application.services):
        kinds["autoscaling"] = ["horizontalpodautoscalers"]
    monitoring = settings.monitoring
    if monitoring and (monitoring.rollback.controlled or monitoring.logs):
        kinds["rbac.authorization.k8s.io"] = ["roles", "rolebindings"]
    found = [Right(verb, group, one) for group, resources in kinds.items() for one in resources for verb in _VERBS]
    found += [Right("list", "", "pods"), Right("get", "", "pods/log"), Right("create", "", "pods/exec")]
    found += [
        Right("list", "", "events"),
        Right("get", "", "namespaces", False),
        Right("create", "", "namespaces", False),
    ]
    if (
        monitoring
        and monitoring.mode == "plain"
        and monitoring.infrastructure.kubelet
        and monitoring.prometheus.kubelet
    ):
        names = ("clusterroles", "clusterrolebindings")
        found += [Right("create", "rbac.authorization.k8s.io", name, False) for name in names]
    return sorted(found)


def judge_rights(refused: Sequence[Right], asked: int) -> str | Fault:
    """Whether every right is there."""
    if not refused:
        return f"{asked} of {asked} rights"
    by: dict[str, list[str]] = {}
    for right in sorted(refused):
        by.setdefault(right.rule, []).append(right.verb)
    some = "; ".join(f"{'/'.join(verbs)} {rule}" for rule, verbs in list(by.items())[:4])
    more = f" and {len(by) - 4} kinds more" if len(by) > 4 else ""
    return Fault(
        f"{len(refused)} of {asked} rights are missing: {some}{more}",
        "let an administrator bind this identity to a ClusterRole with the rules in docs/adopting.md",
    )


def judge_version(version: Mapping[str, Any]) -> str | Fault:
    """Whether the cluster's Kubernetes is new enough."""
    shown = str(version.get("gitVersion", "?"))
    number = tuple(int(part) for part in re.findall(r"\d+", shown)[:2])
    least = ".".join(map(str, LEAST_KUBERNETES))
    if number < LEAST_KUBERNETES:
        return Fault(f"Kubernetes {shown}, but pods need {least} or later", f"upgrade the cluster to {least} or later")
    return f"Kubernetes {shown}"


def list_storage_classes(settings: StackSettings) -> set[str | None]:
    """The storage classes of the stack's volumes; None is the cluster's default."""
    data, backup, monitoring = settings.data, settings.backup, settings.monitoring
    found: set[str | None] = {volume.storage_class for volume in data.volumes.values()}
    found |= {
        one.storage_class for one in (data.postgres, data.redis) if isinstance(one, BundledPostgres | BundledRedis)
    }
    if backup:
        found.add(backup.scratch_storage_class)
        if isinstance(backup.destination, VolumeDestination):
            found.add(backup.destination.storage_class)
    if monitoring and monitoring.mode == "plain":
        found |= {monitoring.prometheus.storage_class, monitoring.alertmanager.storage_class}
    return found


def judge_storage(asked: Collection[str | None], classes: Sequence[Mapping[str, Any]]) -> str | Fault:
    """Whether every storage class is there."""
    names = {item["metadata"]["name"] for item in classes}
    mark = "storageclass.kubernetes.io/is-default-class"
    default = [
        item["metadata"]["name"] for item in classes if item["metadata"].get("annotations", {}).get(mark) == "true"
    ]
    known = ", ".join(sorted(names)) or "none"
    if absent := sorted(name for name in asked if name and name not in names):
        return Fault(
            f"there is no StorageClass {', '.join(absent)}; there is: {known}", "write one of these as storageClass"
        )
    if None in asked and not default:
        some = sorted(names)[0] if names else "NAME"
        annotate = f"`kubectl annotate storageclass {some} {mark}=true`"
        return Fault(
            f"the cluster has no default StorageClass; there is: {known}", f"{annotate}, or write storageClass"
        )
    return f"{', '.join(sorted(filter(None, asked)) or default)} of {known}" if asked else "no volumes"


def judge_ingress_class(wanted: str, classes: Sequence[Mapping[str, Any]]) -> str | Fault:
    """Whether the ingress class is there."""
    names = sorted(item["metadata"]["name"] for item in classes)
    if wanted in names:
        return wanted
    write = f"write `className: {names[0]}` in runbook:ingress" if names else "install an ingress controller"
    return Fault(f"there is no IngressClass {wanted}; there is: {', '.join(names) or 'none'}", write)


def list_images(settings: StackSettings, release: str | None) -> dict[str, str]:
    """The images of a first release, by the key that names each."""
    data, backup, monitoring = settings.data, settings.backup, settings.monitoring
    found: dict[str, str | None] = {"runbook:image": settings.image, "the release": release}
    for service in settings.application.services:
        for name, image in service.images.items():
            found[f"service {service.name}" if name == service.name else f"{name} of {service.name}"] = image
    for name, store in (("postgres", data.postgres), ("redis", data.redis)):
        found[f"data.{name}.image"] = store.image if isinstance(store, BundledPostgres | BundledRedis) else None
    if backup:
        found["restoreTest.postgresImage"] = backup.restore_test.postgres_image
        found["restoreTest.redisImage"] = backup.restore_test.redis_image
    if monitoring:
        found |= {"monitoring.image": monitoring.image, "monitoring.rollback.image": monitoring.rollback.image}
    return {name: image for name, image in found.items() if image}


def judge_release_image(settings: StackSettings, image: Image) -> str | Fault:
    """Whether the release's image has its labels, and a user that Pod Security admits and the settings name."""
    try:
        schema = image.schema({})
    except Refused as error:
        return Fault(str(error), "add `LABEL runbook.schema.min=1 runbook.schema.max=1 runbook.schema.level=1` to it")
    if not image.git:
        return Fault(
            "the image has no label org.opencontainers.image.revision",
            "build it with `--label org.opencontainers.image.revision=$(git rev-parse HEAD)`, or deploy with --git",
        )
    user = str(image.config.get("User") or "").partition(":")[0]
    runs_as = settings.application.main_service.shape.uid or 10001
    if user.isdigit() and int(user) not in (0, runs_as):
        return Fault(
            f"the image is built for user {user}, and its pods run as {runs_as}",
            f"write `pod: {{uid: {user}}}` in its services",
        )
    built_for = f"user {user}" if user.isdigit() else "no user number"
    return f"schema {schema.min} to {schema.max}, commit {image.git}, {built_for}, pods run as {runs_as}"


def judge_database(found: Mapping[str, Any], *, writes: bool = True) -> str | Fault:
    """Whether an external database is new enough, and its role may do what migrations, backups and rotations do.
    `writes`: there are migrations or backups; one that is only monitored needs no right of theirs."""
    version, user, database = int(found["version"]) // 10000, found["user"], found["database"]
    if version < LEAST_POSTGRES:
        return Fault(f"PostgreSQL {version}, but backups need {LEAST_POSTGRES} or later", "upgrade the server")
    if writes and not found["create"]:
        return Fault(
            f"role {user} may not create schemas in database {database}, as migrations and backups do",
            f'`psql --command \'GRANT CREATE ON DATABASE "{database}" TO "{user}"\'`',
        )
    if found.get("admin_creates") is False:
        return Fault(
            "the role of secrets:DATABASE_ADMIN_URL may not create roles, as rotations do",
            "`psql --command 'ALTER ROLE … CREATEROLE'`",
        )
    return f"PostgreSQL {version}, role {user}, database {database}"


def needs_metrics_server(settings: StackSettings) -> bool:
    """Whether something scales on CPU."""
    return any(service.autoscaler for service in settings.application.services)


def names_database(settings: StackSettings) -> Iterator[str]:
    """The secrets with URLs of an external database that the doctor tries."""
    postgres = settings.data.postgres
    if isinstance(postgres, ExternalPostgres):
        yield "DATABASE_URL"
        if postgres.admin:
            yield "DATABASE_ADMIN_URL"
