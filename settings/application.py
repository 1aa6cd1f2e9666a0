"""The services (runbook-de-production §3.3): what each runs, how it is probed, sized and scaled."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from settings.base import (
    CommandLine,
    DnsLabel,
    EnvName,
    Finding,
    HostName,
    ImageRef,
    Path,
    PortNumber,
    Seconds,
    Settings,
    VariableName,
    refuse,
)
from settings.containers import EnvValue, Probe, Resources, resources
from settings.init_containers import InitContainer, add_up, find_clashes_in_pod, find_clashes_in_rehearsal
from settings.pods import LabelValue, PodShape, find_own_metadata
from settings.service_ports import ServicePort, find_port_faults

LOOKS_SECRET = r"SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE_KEY|API_KEY|(_|^)DSN$"  # noqa: S105 (a pattern)
"""Names of variables whose values are secrets."""
PROVIDED_ENV = frozenset(
    {"PORT", "DATABASE_URL", "REDIS_URL", "NODE_ENV", "RELEASE_GIT", "SCHEMA_MIN", "SCHEMA_MAX", "PUBLIC_URL"}
)
"""Variables the program sets itself; a service's own `env` may not."""
_TAKEN_NAMES = frozenset(
    {"postgres", "redis", "postgres-pods", "redis-pods", "migrate", "rehearsal", "cache", "smoke"}
    | {"backup", "backup-exporter", "restore-test", "credentials", "maintenance", "go-live", "operations", "validate"}
    | {"prometheus", "alertmanager", "blackbox", "postgres-exporter", "redis-exporter"}
)
"""Names of the program's own Services and accounts."""


_MOST_PODS = 10_000
"""Pods of a service: far more than a rollout within the limit could replace."""


class Probes(Settings):
    """The three probes of a service. Liveness must not check what readiness checks: a slow database is no
    reason to restart every pod."""

    startup: Annotated[Probe, Field(examples=[{"path": "/api/live"}])]
    """Until it succeeds, the other two do not run."""
    readiness: Annotated[Probe, Field(examples=[{"path": "/api/ready"}])]
    """While it fails, the pod gets no traffic."""
    liveness: Annotated[Probe, Field(examples=[{"path": "/api/live"}])]
    """When it fails, the container is restarted; it must check the process only, no dependency."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.liveness.question == self.readiness.question and not self.liveness.tcp:
            why = "requests the same path as readiness: an unreachable database would restart every pod"
            asked = "path" if self.liveness.path else "command" if self.liveness.command else "grpc"
            write = {"path": "/api/live", "command": "node scripts/alive.js", "grpc": "liveness"}[asked]
            refuse([Finding(("liveness", asked), why, write)])
        return self


class Autoscaler(Settings):
    """Scales a service on CPU; the program then does not set `replicas`. The cluster needs metrics-server for it."""

    min_replicas: Annotated[int, Field(ge=1, le=_MOST_PODS, examples=[2])]
    """Minimum number of pods."""
    max_replicas: Annotated[int, Field(ge=1, le=_MOST_PODS, examples=[6])]
    """Maximum number of pods."""
    cpu_percent: Annotated[int, Field(ge=10, le=100)] = 70
    """Average use of the requested CPU to aim at, in percent."""

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            why = f"maxReplicas {self.max_replicas} is below minReplicas {self.min_replicas}"
            refuse([Finding(("maxReplicas",), why, self.min_replicas)])
        return self


class Service(Settings):
    """One service: a Deployment with its Service, disruption budget and optional autoscaler."""

    name: DnsLabel
    """Name of the Deployment and Service."""
    command: CommandLine = "npm run start:prod"
    """Command line of the container (runbook-de-production §3.3). No shell runs it."""
    image: ImageRef | None = None
    """Its own image by digest; without it, the release's image."""
    port: PortNumber | None = None
    """HTTP port; without it, a worker without a Service."""
    paths: tuple[Annotated[str, Field(pattern=r"^/")], ...] = ()
    """URL path prefixes the ingress sends to this service."""
    replicas: Annotated[int | None, Field(ge=0, le=_MOST_PODS, examples=[2])] = None
    """Number of pods. Required without an autoscaler, and forbidden with one."""
    autoscaler: Autoscaler | None = None
    """Scale on CPU between two bounds."""
    resources: Resources = resources("100m", "256Mi", "64Mi", limits=("1", "512Mi", "512Mi"))
    """CPU, memory and scratch disk of each pod."""
    probes: Probes
    """Startup, readiness and liveness."""
    env: dict[VariableName, EnvValue] = {}
    """Plain variables. Secrets do not belong here: see `secrets`."""
    rehearse: bool | None = None
    """Whether a rehearsal starts a copy of it, on the live database and queues. Without it, of the main service only: a
    copy of a worker would take jobs that customers wait for."""
    rehearsal_env: dict[VariableName, EnvValue] = {}
    """Variables of that copy instead of its own, such as the switch of a queue that it must not read."""
    pre_stop_seconds: Annotated[int, Field(ge=0, le=300)] = 5
    """Seconds that a terminating pod keeps serving, until every proxy has removed its endpoint."""
    termination_grace_seconds: Seconds = 30
    """Seconds from termination to the kill; includes the pre-stop wait."""
    pod: PodShape | None = None
    """User, writable folders, volumes, placement, labels and annotations of its pods."""
    ports: tuple[ServicePort, ...] | None = None
    """More ports, each with the clients that may call it."""
    init_containers: tuple[InitContainer, ...] | None = None
    """Sidecars and containers that run to their end before the service, in the order in which they start."""
    labels: dict[str, LabelValue] | None = None
    """More labels of its Deployment and its Service. Those of the pods: `pod.labels`."""
    annotations: dict[str, str] | None = None
    """More annotations of its Deployment and its Service. Those of the pods: `pod.annotations`."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        try:
            shlex.split(self.command)
        except ValueError as error:
            found.append(Finding(("command",), f"not a command line: {error}", "npm run start:prod"))
        if self.autoscaler is not None and self.replicas is not None:
            found.append(Finding(("replicas",), "the autoscaler decides the number of pods: remove replicas"))
        if self.autoscaler is None and self.replicas is None:
            found.append(Finding(("replicas",), "is missing", 2))
        if self.termination_grace_seconds <= self.pre_stop_seconds:
            why = f"must be longer than preStopSeconds ({self.pre_stop_seconds}), or the pod is killed while it drains"
            found.append(Finding(("terminationGraceSeconds",), why, self.pre_stop_seconds + 25))
        if self.port is None:
            if self.paths:
                found.append(Finding(("port",), "the ingress needs a port to send its paths to", 3000))
            for kind in ("startup", "readiness", "liveness"):
                if (probe := getattr(self.probes, kind)).needs_port:
                    why = "an HTTP probe needs the service's port; without a port, probe with a command"
                    asked = "path" if probe.path else "tcp" if probe.tcp else "grpc"
                    found.append(
                        Finding(("probes", kind, asked), why if probe.path else why.replace("an HTTP", "this"))
                    )
        found += find_own_metadata(self.labels or {}, self.annotations or {})
        return [*found, *self._env_findings(), *find_clashes_in_pod(self)]

    def _env_findings(self) -> list[Finding]:
        found: list[Finding] = []
        for name in self.env:
            where: Path = ("env", name)
            if name in PROVIDED_ENV:
                found.append(Finding(where, f"{name} is set by the program itself: remove it"))
            elif re.search(LOOKS_SECRET, name, re.IGNORECASE):
                why = (
                    f"looks like a secret, and this file is not encrypted: remove it here, run "
                    f"`pulumi config set --secret secrets:{name}` and add {name} to runbook:application.secrets"
                )
                found.append(Finding(where, why))
        return found

    @property
    def argv(self) -> list[str]:
        """The command line as a list of words."""
        return shlex.split(self.command)

    @property
    def shape(self) -> PodShape:
        """Its pods, where the file says nothing too."""
        return self.pod or PodShape()

    @property
    def more_ports(self) -> tuple[ServicePort, ...]:
        """Its ports beside `port`."""
        return self.ports or ()

    @property
    def before(self) -> tuple[InitContainer, ...]:
        """What starts before it in its pods."""
        return self.init_containers or ()

    @property
    def images(self) -> dict[str, ImageRef]:
        """Images of its own, by the container that runs each."""
        own = {one.name: one.image for one in self.before if one.image}
        return {self.name: self.image, **own} if self.image else own

    @property
    def pod_resources(self) -> Resources:
        """What a pod of it counts as in the namespace's quota."""
        return add_up(self.resources, self.before)

    @property
    def start_seconds(self) -> int:
        """Seconds until its startup probe has succeeded, at the most."""
        asked = self.probes.startup
        return asked.period_seconds * asked.failure_threshold + sum(one.longest_start for one in self.before)

    @property
    def least_replicas(self) -> int:
        """The fewest pods this service can have."""
        return self.autoscaler.min_replicas if self.autoscaler else self.replicas or 0

    @property
    def most_replicas(self) -> int:
        """The most pods this service can have, besides the surge of a rollout."""
        return self.autoscaler.max_replicas if self.autoscaler else self.replicas or 0


class Application(Settings):
    """What a release consists of besides its image. A rollback restores it from history."""

    services: Annotated[tuple[Service, ...], Field(min_length=1)]
    """The services, in any order."""
    main: DnsLabel | None = None
    """Name of the service that rehearsal, smoke test, restore test and health checks call. Without it: the one with
    the path `/`, or the only one with paths, or the only one with a port."""
    host_header: HostName | None = None
    """Host header of the kubelet's probes and of monitoring's health check, for an application that answers 400 to a
    host it does not know. Without it they name the pod's address, and the Service."""
    health_path: Annotated[str | None, Field(pattern=r"^/[A-Za-z0-9._~:/@*-]*$", examples=["/healthz"])] = None
    """Path of the health check that commands and monitoring request. Without it `monitoring.healthPath`, which without
    monitoring is `/api/health`."""
    secrets: tuple[EnvName, ...] = ()
    """Names of `secrets:*` keys that every service gets as variables."""
    progress_deadline_seconds: Annotated[int, Field(ge=10, le=3600)] = 120
    """Seconds from the start of a pod until it is ready; after them its rollout counts as failed."""
    placement_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """Seconds until a pod has a node and its image there, before any other deadline of it begins: a node may have to be
    provisioned first. A release is not to blame for them."""
    surge: Annotated[int, Field(ge=1, le=100)] = 1
    """Pods beyond its number that a service may have while it is rolled out: more is faster and needs more quota."""
    job_resources: Resources = resources("100m", "256Mi", "64Mi", limits=("1", "512Mi", "512Mi"))
    """CPU, memory and scratch disk of the migration, cache and smoke Jobs."""

    @classmethod
    def none(cls) -> Application:
        """That of a stack that only backs a database up: no services, and no secrets."""
        return cls.model_construct(services=())

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        seen: set[str] = set()
        taken: dict[str, str] = {}
        for index, service in enumerate(self.services):
            here: Path = ("services", index)
            if service.name in seen:
                found.append(Finding((*here, "name"), f"{service.name} is already the name of another service"))
            seen.add(service.name)
            if service.name in _TAKEN_NAMES:
                found.append(Finding((*here, "name"), f"{service.name} is a name the program uses itself", "backend"))
            for place, prefix in enumerate(service.paths):
                if prefix in taken:
                    why = f"{prefix} is already served by {taken[prefix]}"
                    found.append(Finding((*here, "paths", place), why))
                taken.setdefault(prefix, service.name)
            slowest = service.start_seconds
            if slowest > self.progress_deadline_seconds:
                why = (
                    f"the startup probe of {service.name}{' and what starts before it' * bool(service.before)} "
                    f"{'allow' if service.before else 'allows'} {slowest} s, but the rollout is given up after "
                    f"{self.progress_deadline_seconds} s"
                )
                found.append(Finding(("progressDeadlineSeconds",), why, slowest + 60))
            clash = sorted(set(service.env) & set(self.secrets))
            found += [Finding((*here, "env", name), f"{name} is also in secrets: remove one") for name in clash]
        found += find_port_faults(self.services)
        found += self._main_findings() or self._rehearsal_findings()
        for place, name in enumerate(self.secrets):
            if name in PROVIDED_ENV:
                found.append(Finding(("secrets", place), f"{name} is set by the program itself: remove it"))
            elif name in self.secrets[:place]:
                found.append(Finding(("secrets", place), f"{name} stands here twice: remove one"))
        return found

    def _main_findings(self) -> list[Finding]:
        named = [service for service in self.services if service.name == self.main]
        reachable = [service.name for service in self.services if service.port]
        if self.main is not None:
            if not named:
                why = f"no such service; services with a port: {', '.join(reachable) or 'none'}"
                return [Finding(("main",), why, reachable[0] if reachable else None)]
            return [] if named[0].port else [Finding(("main",), f"{self.main} has no port to call", 3000)]
        if not reachable:
            return [Finding(("services", 0, "port"), "no service has a port: the checks of a release call one", 3000)]
        candidates = self._main_candidates()
        if len(candidates) > 1:
            names = ", ".join(service.name for service in candidates)
            why = f"is missing: name the service that a release's checks call, one of {names}"
            return [Finding(("main",), why, candidates[0].name)]
        return []

    def _rehearsal_findings(self) -> Iterator[Finding]:
        """In one pod they share the ports."""
        main = self.main_service
        taken: dict[int, str] = {main.port: main.name} if main.port else {}
        for index, service in enumerate(self.services):
            if service.name == main.name or not service.rehearse:
                continue
            where: Path = ("services", index, "rehearse")
            if main.rehearse is False:
                why = f"the rehearsal is off, because {main.name}, which it calls, must not run in it"
                yield Finding(where, why, False)
            elif service.port in taken:
                why = f"in a rehearsal it shares a pod, and port {service.port}, with {taken[service.port]}"
                yield Finding(where, why, False)
            elif service.port:
                taken[service.port] = service.name
        started = {service.name for service in self.rehearsed}
        ordered = sorted(enumerate(self.services), key=lambda item: item[1].name != main.name)
        yield from find_clashes_in_rehearsal(item for item in ordered if item[1].name in started)

    def _main_candidates(self) -> list[Service]:
        """Candidates for the service that a release's checks call; more than one only if the file does not name it."""
        if self.main is not None:
            return [service for service in self.services if service.name == self.main]
        entered = [service for service in self.services if service.port and service.paths]
        root = [service for service in entered if "/" in service.paths]
        return root or entered or [service for service in self.services if service.port]

    def internal_url(self, path: str) -> str:
        """URL inside the namespace of the service to which the ingress sends this path; of the main one for others."""
        path = path.partition("?")[0]
        found = [
            (len(prefix), service)
            for service in self.services
            for prefix in service.paths
            if service.port and (path == prefix or path.startswith(prefix.rstrip("/") + "/"))
        ]
        service = max(found, key=lambda item: item[0])[1] if found else self.main_service
        return f"http://{service.name}:{service.port}"

    @property
    def rehearsed(self) -> tuple[Service, ...]:
        """The services that a rehearsal starts, the main one first; none where the main one must not run in it."""
        main = self.main_service
        if main.rehearse is False:
            return ()
        return (main, *(service for service in self.services if service.rehearse and service is not main))

    @property
    def main_service(self) -> Service:
        """The service that rehearsal, smoke test, restore test and health checks call; it has a port."""
        return self._main_candidates()[0]
