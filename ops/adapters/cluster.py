"""Reads the cluster: the database's schema level, rollouts, whether an object exists."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from lightkube import ApiError, Client, KubeConfig
from lightkube.config.client_adapter import Client as connect
from lightkube.config.client_adapter import ConnectionParams
from lightkube.core.exceptions import ConfigError, LoadResourceError
from lightkube.core.resource import NamespacedResource
from lightkube.core.resource_registry import resource_registry
from lightkube.models.apps_v1 import DeploymentStatus
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Pod

from ops.adapters.kubernetes_models import decode_in_threads
from ops.adapters.server_clock import ServerClock
from ops.errors import OpsError, Refused
from settings import Commands, Service

decode_in_threads()
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)


def _stream_timeout(seconds: float) -> httpx.Timeout:
    """For an answer that is streamed for this time."""
    return httpx.Timeout(10.0, connect=5.0, read=seconds + 10)


@dataclass(frozen=True)
class Rollout:
    """One service's Deployment."""

    service: str
    wanted: int
    ready: int
    updated: int
    image: str
    revision: str
    settled: bool
    """Every pod is of the newest template and available, and no older one is left."""


class Cluster:
    """The namespace of one stack, in the cluster the kubeconfig names."""

    def __init__(self, namespace: str, config: Mapping[str, Any]) -> None:
        self.namespace = namespace
        context = config.get("kubernetes:context")
        try:
            found = KubeConfig.from_env().get(context_name=context if isinstance(context, str) else None)
            if found is None:
                raise ConfigError("it has no current context")
            self._config = found
            self._client = Client(config=found, namespace=namespace, timeout=_TIMEOUT)
        except (ConfigError, OSError) as error:
            raise Refused(f"There is no usable kubeconfig: {error}. Set KUBECONFIG.") from None

    def read_clock(self) -> ServerClock:
        """The API server's time."""
        with self.http() as http:
            return ServerClock.ask(http)

    def rollouts(self, services: Sequence[Service]) -> list[Rollout]:
        """The Deployments of these services that exist."""
        found = [(service, self._find_deployment(service.name)) for service in services]
        return [_to_rollout(deployment, service) for service, deployment in found if deployment]

    def read_workloads(self) -> list[dict[str, Any]]:
        """The namespace's Deployments and StatefulSets, as the API server returns them."""
        found: list[dict[str, Any]] = []
        with self.http() as http:
            for kind in ("Deployment", "StatefulSet"):
                answer = http.get(f"/apis/apps/v1/namespaces/{self.namespace}/{kind.lower()}s")
                if answer.is_error:
                    raise _refusal(answer.status_code, answer.text[:200])
                found += [{"kind": kind, **item} for item in answer.json()["items"]]
        return found

    def await_settled(self, services: Sequence[Service], seconds: int) -> list[Rollout]:
        """Wait until all Deployments are settled; they are returned as they are when the time is over."""
        named = {service.name: service for service in services}
        rollouts = self.rollouts(services)
        if all(rollout.settled for rollout in rollouts):
            return rollouts
        current = {rollout.service: rollout for rollout in rollouts}

        deployments = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        for _, found in self.watch_changes(deployments, seconds):
            if service := named.get(found["metadata"]["name"]):
                current[service.name] = _to_rollout(Deployment.from_dict(found), service)
            if all(rollout.settled for rollout in current.values()):
                break
        return list(current.values())

    def await_terminated(self, deployment: str, seconds: float) -> list[str]:
        """Wait until no pod of a Deployment is terminating; returns those that still are when the time is over."""
        return self._await_none(deployment, seconds, lambda pod: pod.metadata and pod.metadata.deletionTimestamp)

    def await_no_pods(self, deployment: str, seconds: float) -> list[str]:
        """Wait until a Deployment has no pod that runs; returns those that still do when the time is over."""
        ended = ("Succeeded", "Failed")
        return self._await_none(deployment, seconds, lambda pod: not (pod.status and pod.status.phase in ended))

    def _await_none(self, deployment: str, seconds: float, counts: Callable[[Pod], object]) -> list[str]:
        def find() -> list[str]:
            return [_name(pod) for pod in self._list_pods(deployment) if counts(pod)]

        left = find()
        if left:
            # Listed again after each change: a pod may disappear between a list and the start of a watch.
            for _ in self.watch_changes(f"/api/v1/namespaces/{self.namespace}/pods", seconds):
                if not (left := find()):
                    break
        return left

    def startup_seconds(self, services: Sequence[Service]) -> float | None:
        """How long the slowest running pod of these services took from its start to its first traffic.

        None when none runs. For a pod that was unready meanwhile, until it was ready again.
        """
        found = [
            seconds
            for service in services
            for pod in self._list_pods(service.name)
            for seconds in _startup_seconds(pod)
        ]
        return max(found, default=None)

    def find(self, kind: Any, name: str) -> Any:
        """An object of the namespace, or None."""
        return self._get(kind, name, self.namespace)

    @contextmanager
    def patient(self) -> Iterator[Client]:
        """A client without a read timeout, for streams such as a log."""
        with self._translated_errors():
            yield Client(config=self._config, namespace=self.namespace, timeout=httpx.Timeout(None, connect=5.0))

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        """A plain HTTP client of the API server, for objects of any kind."""
        with self._translated_errors(), connect(self._config, ConnectionParams(timeout=_TIMEOUT)) as http:
            yield http

    def watch_changes(self, path: str, seconds: float, **selection: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """List and watch an API path, as (`ADDED`, object), until the time is over."""
        deadline = time.monotonic() + seconds
        with connect(self._config, ConnectionParams(timeout=_TIMEOUT)) as http:
            while (left := math.ceil(deadline - time.monotonic())) > 0:
                parameters = {**selection, "watch": "true", "timeoutSeconds": str(left)}
                with (
                    self._translated_errors(),
                    http.stream("GET", path, params=parameters, timeout=_stream_timeout(left)) as answer,
                ):
                    if answer.is_error:
                        answer.read()
                        raise _refusal(answer.status_code, answer.text)
                    for line in answer.iter_lines():
                        change = json.loads(line)
                        yield change["type"], change["object"]

    def schema_level(self, service: Service, commands: Commands) -> int | None:
        """The database's level, from the command run in a ready pod of the service; None without one."""
        pod = next(self._find_ready_pods(service.name), None)
        if pod is None:
            return None
        answer = ""
        for argv in commands.schema_level.argvs:
            answer = self._run(pod, argv, commands.schema_level.timeout_seconds)
        level = answer.split()[-1] if answer.split() else ""
        if not level.isdigit():
            raise Refused(
                "commands.schemaLevel must end with one whole number, the database's schema level, and did not. "
                f"{self._see_output(pod, commands.schema_level.argvs[-1])}"
            )
        return int(level)

    def exists(self, inputs: Mapping[str, Any]) -> str | None:
        """The id under which the engine knows an object with these inputs, if it is in the cluster."""
        version, kind, meta = str(inputs["apiVersion"]), str(inputs["kind"]), inputs["metadata"]
        try:
            resource = resource_registry.load(version, kind)
        except LoadResourceError:
            raise Refused(
                f"A killed run may have made {kind} {meta['name']} ({version}), a kind unknown here: "
                "check whether it exists, then run `pulumi refresh`."
            ) from None
        name, namespace = meta["name"], meta.get("namespace") or "default"
        if not issubclass(resource, NamespacedResource):
            return name if self._get(resource, name, None) else None
        return f"{namespace}/{name}" if self._get(resource, name, namespace) else None

    def read_lease(self, name: str) -> Lease | None:
        """A Lease of the namespace, or None."""
        return self.find(Lease, name)

    def write_lease(self, lease: Lease) -> Lease | None:
        """Create or replace a Lease; None when another one wrote it since it was read, or there is no namespace."""
        known = bool(lease.metadata and lease.metadata.resourceVersion)

        def write() -> Lease | None:
            try:
                return self._client.replace(lease) if known else self._client.create(lease)
            except ApiError as error:
                if error.status.code in (404, 409):
                    return None
                if error.status.code == 403:
                    raise Refused(
                        f"This identity may not hold the stack's lock ({error.status.message}): grant it create, get, "
                        f"update, list and watch on leases (coordination.k8s.io) in namespace {self.namespace}."
                    ) from None
                raise

        return self._call(write)

    def watch_lease(self, name: str, seconds: float) -> Iterator[Lease]:
        """A Lease as it is, and after each change, until the time is over."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"
        for kind, found in self.watch_changes(path, seconds, fieldSelector=f"metadata.name={name}"):
            yield Lease.from_dict(found) if kind != "DELETED" else Lease()

    def _find_deployment(self, name: str) -> Deployment | None:
        return self.find(Deployment, name)

    def _list_pods(self, service: str) -> list[Pod]:
        deployment = self._find_deployment(service)
        if not deployment or not deployment.spec:
            return []
        labels = deployment.spec.selector.matchLabels or {}
        return self._call(lambda: list(self._client.list(Pod, labels=labels)))

    def pod_addresses(self, service: str) -> list[str]:
        """Addresses of a service's pods, ready or not, without those that are being deleted; IPv6 in brackets."""
        found = [
            pod.status.podIP
            for pod in self._list_pods(service)
            if pod.status and pod.status.podIP and not (pod.metadata and pod.metadata.deletionTimestamp)
        ]
        return [f"[{address}]" if ":" in address else address for address in found]

    def run_in_pods(self, deployment: str, argv: list[str], seconds: int) -> dict[str, str]:
        """What a command prints in each ready pod of a Deployment."""
        return {pod: self._run(pod, argv, seconds) for pod in self._find_ready_pods(deployment)}

    def run_in_labelled(
        self, labels: Mapping[str, str], argv: list[str], seconds: int, *, namespace: str, container: str
    ) -> str | None:
        """What a command prints in one ready pod with these labels, of any namespace; None without one."""
        pods = self._call(lambda: list(self._client.list(Pod, labels=dict(labels), namespace=namespace)))
        pod = next((_name(pod) for pod in pods if _is_ready(pod)), None)
        return None if pod is None else self._run(pod, argv, seconds, namespace, container)

    def _find_ready_pods(self, service: str) -> Iterator[str]:
        return (_name(pod) for pod in self._list_pods(service) if _is_ready(pod))

    def _run(
        self, pod: str, argv: list[str], seconds: int, namespace: str | None = None, container: str | None = None
    ) -> str:
        done = self._call(
            lambda: self._client.exec(
                pod,
                command=argv,
                stdout=True,
                stderr=True,
                timeout=seconds,
                namespace=namespace or self.namespace,
                container=container,
            )
        )
        if done.exit_code != 0:
            raise Refused(f"`{shlex.join(argv)}` ended with exit code {done.exit_code}. {self._see_output(pod, argv)}")
        return str(done.stdout or "")

    def _see_output(self, pod: str, argv: list[str]) -> str:
        """Instead of the output: the command has the application's secrets, and messages go into records and logs."""
        return f"See what it prints: `kubectl -n {self.namespace} exec {pod} -- {shlex.join(argv)}`."

    def _get(self, kind: Any, name: str, namespace: str | None) -> Any:
        def read() -> Any:
            try:
                return self._client.get(kind, name, namespace=namespace) if namespace else self._client.get(kind, name)
            except ApiError as error:
                if error.status.code == 404:
                    return None
                raise

        return self._call(read)

    def _call(self, work: Any) -> Any:
        with self._translated_errors():
            return work()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise _refusal(error.status.code, error.status.message) from None
        except httpx.HTTPError as error:
            where = getattr(self._config.cluster, "server", "?")
            raise Unreachable(f"The cluster at {where} cannot be reached: {error or type(error).__name__}") from None


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.status and pod.status.conditions) or []
    ready = any(c.type == "Ready" and c.status == "True" for c in conditions)
    return ready and bool(pod.metadata) and not (pod.metadata and pod.metadata.deletionTimestamp)


def _name(pod: Pod) -> str:
    return (pod.metadata and pod.metadata.name) or ""


class ClusterError(Refused):
    """The API server refused a request, or did not answer. After an update of the same command, see `keep_applied`."""


class Unreachable(ClusterError):
    """No answer from the API server."""


def _refusal(code: int | None, why: str | None) -> ClusterError:
    return ClusterError(f"The API server refused the request ({code}): {why}")


def _startup_seconds(pod: Pod) -> Iterator[float]:
    status = pod.status
    if status is None:
        return
    ready = [c.lastTransitionTime for c in status.conditions or () if c.type == "Ready" and c.status == "True"]
    for container in status.containerStatuses or ():
        running = container.state.running if container.state else None
        if running and running.startedAt and ready and ready[0]:
            yield (ready[0] - running.startedAt).total_seconds()


def _to_rollout(deployment: Deployment, service: Service) -> Rollout:
    meta, spec = deployment.metadata, deployment.spec
    status = deployment.status or DeploymentStatus()
    if not meta or not spec or not spec.template.spec:
        raise OpsError("the API server answered with a Deployment without a pod template")
    wanted = 1 if spec.replicas is None else spec.replicas
    if service.replicas != 0:
        wanted = max(wanted, 1)  # `kubectl scale` to none: no pod is no service, however settled the Deployment is
    updated, ready = status.updatedReplicas or 0, status.readyReplicas or 0
    return Rollout(
        service=service.name,
        wanted=wanted,
        ready=ready,
        updated=updated,
        image=spec.template.spec.containers[0].image or "",
        revision=(meta.annotations or {}).get("runbook/revision", ""),
        settled=(
            (status.observedGeneration or 0) >= (meta.generation or 0)
            and updated == wanted
            and (status.availableReplicas or 0) >= wanted
            and (status.replicas or 0) == wanted
        ),
    )
