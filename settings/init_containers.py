"""Containers that start before a service in its pods: sidecars, which run as long as it, and others that end first."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from settings.base import (
    CommandLine,
    DnsLabel,
    EnvName,
    Finding,
    ImageRef,
    Path,
    PortNumber,
    Seconds,
    Settings,
    VariableName,
    quantity,
)
from settings.containers import Amounts, EnvValue, Probe, Resources, resources
from settings.pods import ROOT, Folder, Id, PodShape
from settings.problems import Problem

if TYPE_CHECKING:
    from settings.application import Application, Service
    from settings.consistency import StackFile
    from settings.platform import Credentials, Data

_TAKEN_NAMES = frozenset(
    {"migrate", "migration-guard", "rehearsal", "lighthouse", "cache", "smoke", "validate", "reach"}
    | {"command", "task", "checks", "application", "runner"}
)
"""Names of the program's own containers in pods that a sidecar may run in."""
_OF_A_JOB = re.compile(r"^(migrate|rehearsal|cache|smoke|command|pipeline|verify)-")
DATABASE_URL, REDIS_URL = "DATABASE_URL", "REDIS_URL"


class SidecarProbes(Settings):
    """The probes of a sidecar; each is optional."""

    startup: Annotated[Probe | None, Field(examples=[{"tcp": True}])] = None
    """Until it succeeds, no container after it starts."""
    readiness: Annotated[Probe | None, Field(examples=[{"tcp": True}])] = None
    """While it fails, the pod gets no traffic."""
    liveness: Annotated[Probe | None, Field(examples=[{"tcp": True}])] = None
    """When it fails, the sidecar is restarted."""


class InitContainer(Settings):
    """A container that starts before the service. As all of the program's it has no privileges, a root filesystem that
    is read-only, and a /tmp of its own; of the service's volumes, variables and secrets it has those that are written
    here."""

    name: DnsLabel
    """Name of the container."""
    sidecar: bool = False
    """It runs as long as the service, such as a proxy to the database, and is stopped after it. Without it, it runs to
    its end before the service starts."""
    image: ImageRef | None = None
    """Its image by digest; without it, that of the service."""
    command: CommandLine | None = None
    """Command line; without it, the image's own. No shell runs it."""
    args: Annotated[CommandLine | None, Field(examples=["--port=5432 --structured-logs"])] = None
    """Arguments of that command."""
    env: dict[VariableName, EnvValue] = {}
    """Plain variables."""
    secrets: tuple[EnvName, ...] = ()
    """Names of secrets that it gets as variables: of `application.secrets`, generated ones, `DATABASE_URL`,
    `REDIS_URL`."""
    service_env: bool = False
    """It gets all variables and secrets of the service."""
    mounts: Annotated[tuple[Folder, ...], Field(examples=[["/app/.cache"]])] = ()
    """Folders of the service's `pod.writablePaths` and `pod.volumes` that it has too, at the same place."""
    uid: Id | None = None
    """Numeric user of its image; without it, that of the service's pods."""
    port: PortNumber | None = None
    """Port that its probes ask."""
    probes: SidecarProbes = SidecarProbes()
    """Probes of a sidecar."""
    start_seconds: Seconds = 60
    """Seconds that it may take to its end, where it is no sidecar: deadlines of its Jobs grow by them."""
    resources: Resources = resources("50m", "64Mi", "64Mi", limits=("500m", "128Mi", "128Mi"))
    """CPU, memory and scratch disk."""
    rehearse: bool = True
    """It also runs in the rehearsal of its service, which calls what it calls: the live database."""
    in_jobs: bool = False
    """It also runs in the Jobs of the release's commands (migration, cache, smoke, pipeline, go-live, maintenance),
    where the service is the main one: for a proxy without which they do not reach the database."""

    def _findings(self) -> list[Finding]:
        found = [Finding(("uid",), ROOT, 1000)] if self.uid == 0 else []
        if self.name in _TAKEN_NAMES or _OF_A_JOB.match(self.name):
            found.append(Finding(("name",), f"{self.name} is a name the program uses itself", f"my-{self.name}"))
        for key in ("command", "args"):
            found += self._line_findings(key, getattr(self, key))
        found += [
            Finding(("env", name), f"{name} is also in secrets: remove one")
            for name in self.env
            if name in self.secrets
        ]
        if self.service_env and self.secrets:
            found.append(Finding(("secrets",), "serviceEnv gives it all secrets of the service: remove one of the two"))
        if self.service_env and self.in_jobs:
            why = "the migration runs before the service has its variables: name in env and secrets what it needs"
            found.append(Finding(("serviceEnv",), why, False))
        if "/tmp" in self.mounts:  # noqa: S108 (a mount point in the pod)
            why = "each container has a /tmp of its own: share a folder of pod.writablePaths"
            found.append(Finding(("mounts",), why, ["/app/shared"]))
        return [*found, *self._probe_findings()]

    def _line_findings(self, key: str, line: str | None) -> Iterator[Finding]:
        try:
            shlex.split(line or "")
        except ValueError as error:
            yield Finding((key,), f"not a command line: {error}", "server --port=5432")
        for name in self.secrets:
            if f"$({name})" in (line or ""):
                why = f"would have the secret {name} as an argument, which `ps` shows: let it read the variable"
                yield Finding((key,), why)

    def _probe_findings(self) -> Iterator[Finding]:
        for kind in ("startup", "readiness", "liveness"):
            asked: Probe | None = getattr(self.probes, kind)
            if asked and not self.sidecar:
                why = "only a sidecar has probes: set sidecar: true, or remove it"
                yield Finding(("probes", kind), why)
            elif asked and asked.needs_port and self.port is None:
                yield Finding(("port",), f"is missing: its {kind} probe asks there", 5432)

    def findings_in(self, service: str, shape: PodShape) -> Iterator[Finding]:
        """What is wrong with it in the pods of this service."""
        if self.name == service:
            yield Finding(("name",), f"{service} is already the name of the service's container", f"{service}-proxy")
        known = [*shape.writable_paths, *(volume.path for volume in shape.volumes)]
        for place, path in enumerate(self.mounts):
            if path not in known:
                have = ", ".join(known) or "none"
                why = f"the service has no such folder; pod.writablePaths and pod.volumes have: {have}"
                yield Finding(("mounts", place), why, known[0] if known else None)

    @property
    def longest_start(self) -> int:
        """Seconds until the container after it starts, at the most."""
        if not self.sidecar:
            return self.start_seconds
        asked = self.probes.startup
        return asked.period_seconds * asked.failure_threshold if asked else 0

    @property
    def command_line(self) -> list[str] | None:
        """The command as a list of words."""
        return shlex.split(self.command) if self.command else None

    @property
    def arguments(self) -> list[str] | None:
        """The arguments as a list of words."""
        return shlex.split(self.args) if self.args else None

    def is_same_everywhere(self) -> bool:
        """Whether it is the same container in the pods of any service."""
        return self.image is not None and not (self.service_env or self.mounts)


def add_up(main: Resources, before: Iterable[InitContainer]) -> Resources:
    """What a pod counts as: its sidecars and the service together, or one that ends before it, if that needs more."""
    before = tuple(before)
    if not before:
        return main

    def largest(side: str, amount: str) -> str:
        beside, most = Decimal(0), Decimal(0)
        for one in before:
            needed = quantity(getattr(getattr(one.resources, side), amount))
            most = max(most, beside + needed)
            beside += needed if one.sidecar else 0
        return str(max(most, beside + quantity(getattr(getattr(main, side), amount))))

    def add(side: str) -> Amounts:
        cpu, memory, disk = (largest(side, amount) for amount in ("cpu", "memory", "ephemeral_storage"))
        return Amounts.model_construct(cpu=cpu, memory=memory, ephemeral_storage=disk)

    return Resources.model_construct(requests=add("requests"), limits=add("limits"))


def find_clashes_in_pod(service: Service) -> Iterator[Finding]:
    """Containers of one pod share its names and ports."""
    ports = {number: "the service" for number in (service.port, *(port.port for port in service.more_ports)) if number}
    names: set[str] = set()
    for index, one in enumerate(service.before):
        here: Path = ("initContainers", index)
        for found in one.findings_in(service.name, service.shape):
            yield Finding((*here, *found.path), found.why, found.write)
        if one.name in names:
            yield Finding((*here, "name"), f"{one.name} stands here twice: rename one")
        names.add(one.name)
        if one.sidecar and one.port and one.port == service.port:
            yield Finding((*here, "port"), f"the service listens on {one.port}, in the same pod", one.port + 1)
        elif one.sidecar and one.port and ports.get(one.port, "the service") != "the service":
            yield Finding((*here, "port"), f"{ports[one.port]} listens on {one.port}, in the same pod", one.port + 1)
        if one.sidecar and one.port:
            ports[one.port] = one.name


def find_clashes_in_rehearsal(rehearsed: Iterable[tuple[int, Service]]) -> Iterator[Finding]:
    """A rehearsal runs several services in one pod: a container of the same name must be the same there."""
    taken: dict[str, tuple[str, InitContainer | None]] = {}
    ports: dict[int, str] = {}
    for index, service in rehearsed:
        here: Path = ("services", index, "initContainers")
        if service.name in taken:
            why = f"in a rehearsal it shares a pod with the container {service.name} of {taken[service.name][0]}"
            yield Finding(("services", index, "name"), why, f"{service.name}-service")
        taken[service.name] = (service.name, None)
        for port in service.more_ports:
            if (holder := ports.get(port.port)) is not None:
                why = f"in a rehearsal it shares a pod, and port {port.port}, with {holder}"
                yield Finding(("services", index, "rehearse"), why, False)
        ports |= dict.fromkeys(filter(None, (service.port, *(port.port for port in service.more_ports))), service.name)
        for place, one in enumerate(service.before):
            if not one.rehearse:
                continue
            owner, other = taken.setdefault(one.name, (service.name, one))
            if owner != service.name and not (other == one and one.is_same_everywhere()):
                why = (
                    f"in a rehearsal it shares a pod with {one.name} of {owner}, which is another: write the same in "
                    "both, with an image and without serviceEnv and mounts, or give it another name"
                )
                yield Finding((*here, place, "name"), why, f"{one.name}-{service.name}")
            elif owner == service.name and one.sidecar and one.port:
                holder = ports.setdefault(one.port, one.name)
                if holder not in (one.name, service.name):
                    why = f"in a rehearsal it shares a pod, and port {one.port}, with {holder}"
                    yield Finding((*here, place, "port"), why, one.port + 1)


def find_unknown_secrets(
    application: Application, credentials: Credentials, data: Data, file: StackFile
) -> Iterator[Problem]:
    """An init container names secrets that there are; a pod with another would not start."""
    servers = {DATABASE_URL, REDIS_URL} if data.redis else {DATABASE_URL}
    known = {*application.secrets, *credentials.generated, *servers}
    raw: Mapping[str, Any] | None = file.values.get("runbook:application")
    for index, service in enumerate(application.services):
        for number, one in enumerate(service.before):
            for place, name in enumerate(one.secrets):
                if name not in known:
                    where = (*_AT, index, "initContainers", number, "secrets", place)
                    why = f"no such secret; there are: {', '.join(sorted(known))}"
                    yield Problem(where, why, name, None, raw)


_AT: Path = ("runbook:application", "services")
