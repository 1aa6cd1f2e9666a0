"""The rehearsal (runbook-de-production §2, "smoke before any go-live"): a release is proven before it gets traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvFromSourceArgsDict, VolumeArgsDict, VolumeMountArgsDict

from components.base.jobs import JobArgs, run_to_end
from components.base.pods import APPLICATION_UID
from components.base.shapes import volumes
from settings import Command, PodShape, Resources, Service


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """A service in a rehearsal."""

    container: ContainerArgsDict
    """Its container."""
    before: Sequence[ContainerArgsDict] = ()
    """Its sidecars and init containers, in the order in which they start."""
    volumes: Sequence[VolumeArgsDict] = ()
    """What these mount and the pod of the first service lacks."""


@dataclass(frozen=True, kw_only=True)
class RehearsalArgs:
    """The service to start without traffic, and the smoke command that must pass."""

    namespace: Input[str]
    """Where it runs."""
    image: Input[str]
    """The release's image, which the command runs in."""
    services: Sequence[Rehearsed]
    """The services, as the rollout would start them; the command calls the first."""
    port: int
    """HTTP port of the first."""
    start_seconds: int
    """Seconds it may take to start."""
    placement_seconds: int
    """Seconds until its pod has a node and the image."""
    command: Command
    """Command lines and deadline."""
    amounts: Resources
    """CPU, memory and scratch disk of the command."""
    env_from: Sequence[EnvFromSourceArgsDict]
    """Variables of the service."""
    shape: PodShape
    """Its pods."""
    identity: str
    """Hash of everything that makes pods be replaced."""

    @property
    def volumes(self) -> list[VolumeArgsDict]:
        """What the services mount besides the volumes of the first."""
        return [volume for service in self.services for volume in service.volumes]


class Rehearsal(pulumi.ComponentResource):
    """Starts the release in a pod that no Service selects and runs the smoke command beside it.

    The service is a native sidecar: it has started before the command begins, and ends with it. A release
    that crashes, or serves nonsense, fails here, before the first old pod is touched.
    """

    def __init__(self, name: str, args: RehearsalArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:release:Rehearsal", name, None, opts)
        run_to_end(
            self,
            JobArgs(
                name="rehearsal",
                identity=args.identity,
                namespace=args.namespace,
                image=args.image,
                command=args.command,
                amounts=args.amounts,
                env_from=args.env_from,
                env=[{"name": "TARGET_URL", "value": f"http://127.0.0.1:{args.port}"}],
                beside=to_sidecars(args.services),
                volumes=args.volumes,
                shape=args.shape,
                start_seconds=args.start_seconds,
                placement_seconds=args.placement_seconds,
            ),
            opts or ResourceOptions(),
        )
        self.register_outputs({})


def join_pod(made: Rehearsed, own: Service, of: Service) -> Rehearsed:
    """The service `own` as it runs in a pod of `of`: with its own volumes, named by the service,
    and its own user."""
    owned = {volume["name"] for volume in volumes(own.shape)}
    user = own.shape.uid or APPLICATION_UID
    ids = {"run_as_user": user, "run_as_group": own.shape.gid or user}
    differs = (own.shape.uid, own.shape.gid) != (of.shape.uid, of.shape.gid)

    def move(container: ContainerArgsDict) -> ContainerArgsDict:
        mounts = [
            {**mount, "name": f"{own.name}-{mount['name']}"} if mount["name"] in owned else mount
            for mount in cast(Sequence[VolumeMountArgsDict], container.get("volume_mounts", ()))
        ]
        context = cast(dict[str, Any], container.get("security_context", {}))
        moved = {**container, "volume_mounts": mounts, "security_context": {**(ids if differs else {}), **context}}
        return cast(ContainerArgsDict, moved)

    return Rehearsed(
        container=move(made.container),
        before=[move(container) for container in made.before],
        volumes=[{**volume, "name": f"{own.name}-{volume['name']}"} for volume in volumes(own.shape)],
    )


def to_sidecars(services: Sequence[Rehearsed]) -> Sequence[ContainerArgsDict]:
    """Containers of services as they run beside a command, which ends them. What starts before a service does so here,
    too; services that share a sidecar, which settings compare, share the one of the first."""
    leaving = ("lifecycle", "readiness_probe", "liveness_probe")
    made: dict[Any, dict[str, Any]] = {}
    for service in services:
        for container in (*service.before, {**service.container, "restart_policy": "Always"}):
            kept = {key: value for key, value in container.items() if key not in leaving}
            made.setdefault(kept["name"], kept)
    return cast(Sequence[ContainerArgsDict], list(made.values()))
