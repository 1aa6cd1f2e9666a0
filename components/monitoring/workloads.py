"""Pods of monitoring: servers with a volume, exporters without one, and their Services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment, StatefulSet
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgsDict,
    ProbeArgsDict,
    Service,
    ServiceAccount,
    VolumeArgsDict,
)

from components.base.claims import DATA, SIZE, claim_spec, register_growth
from components.base.names import SKIP_AWAIT, content_hash, labels, metadata, selector
from components.base.pods import APPLICATION_UID, OLD_REVISIONS, container, register_service_account, template
from settings import Resources

MONITORING = "monitoring"
"""Part label of all of them."""
_ALONE = {
    # While it is down no data is lost for good, and an alert or the dead man's switch reports it.
    "kube-score/ignore": "deployment-replicas",
}
_LOGIN_IN_ENVIRONMENT = {"checkov.io/skip1": "CKV_K8S_35=The exporters take their logins from the environment alone"}
WAIT = pulumi.CustomTimeouts(create="5m", update="5m")


@dataclass(frozen=True, kw_only=True)
class Pod:
    """One monitoring program."""

    name: str
    port: int
    command: Sequence[Input[str]]
    amounts: Resources
    ready: str
    """Path of the readiness probe."""
    alive: str | None = None
    """Path of the liveness probe; without it, a TCP connection."""
    login: Input[str] | None = None
    """Secret with its credentials as variables."""
    volumes: Mapping[str, Mapping[str, Any]] | None = None
    """Mounted volumes by path."""


@dataclass(frozen=True, kw_only=True)
class ControllerAddress:
    """The rollback controller's webhook."""

    url: str
    """Its URL."""
    token_secret_name: Input[str]
    """Secret with the token that it requires, under `token`."""

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Inputs that all of them share."""

    namespace: Input[str]
    image: Input[str]
    opts: ResourceOptions


def register_exporter(ground: Placement, pod: Pod) -> Deployment:
    """A Deployment without state: the new pod starts before the old one stops."""
    here = selector(pod.name, MONITORING)
    deployment = Deployment(
        pod.name,
        metadata=metadata(
            pod.name,
            ground.namespace,
            labels(pod.name, MONITORING),
            {**_ALONE, **(_LOGIN_IN_ENVIRONMENT if pod.login else {})},
        ),
        spec={
            "replicas": 1,
            "revision_history_limit": OLD_REVISIONS,
            "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 1, "max_unavailable": 0}},
            "selector": {"match_labels": here},
            "template": _template(ground, pod, register_account(ground, pod.name)),
        },
        opts=ResourceOptions.merge(ground.opts, ResourceOptions(custom_timeouts=WAIT)),
    )
    register_service(ground, pod.name, pod.port, here, after=deployment)
    return deployment


def register_server(
    ground: Placement,
    pod: Pod,
    *,
    kept_at: str,
    storage: str,
    storage_class: str | None,
    identity: ServiceAccount,
    annotations: Mapping[str, str] | None = None,
    **more: Any,
) -> StatefulSet:
    """A StatefulSet whose volume outlives its pod."""
    here = selector(pod.name, MONITORING)
    service = _register_address(ground, pod.name, pod.port, here)
    server = StatefulSet(
        pod.name,
        metadata=metadata(pod.name, ground.namespace, labels(pod.name, MONITORING), annotations),
        spec={
            "service_name": pod.name,
            "replicas": 1,
            # So that an update replaces a pod that does not start; in order, it would wait for that pod forever.
            "pod_management_policy": "Parallel",
            "selector": {"match_labels": here},
            "template": _template(ground, pod, identity, kept_at=kept_at, **more),
            "volume_claim_templates": [{"metadata": {"name": DATA}, "spec": claim_spec(storage, storage_class)}],
            "persistent_volume_claim_retention_policy": {"when_deleted": "Retain", "when_scaled": "Retain"},
        },
        opts=ResourceOptions.merge(
            ground.opts, ResourceOptions(depends_on=[service], ignore_changes=[SIZE], custom_timeouts=WAIT)
        ),
    )
    register_growth(
        server, pod.name, storage, namespace=ground.namespace, kind=labels(pod.name, MONITORING), opts=ground.opts
    )
    return server


def register_account(ground: Placement, name: str) -> ServiceAccount:
    return register_service_account(name, MONITORING, ground.namespace, ground.opts)


def register_service(
    ground: Placement, name: str, port: int, pods: Mapping[str, str], *, after: pulumi.Resource
) -> Service:
    """The Service; created after its pods."""
    return Service(
        f"{name}-service",
        metadata=metadata(name, ground.namespace, labels(name, MONITORING), SKIP_AWAIT),
        spec={
            "type": "ClusterIP",
            "selector": dict(pods),
            "ports": [{"name": "http", "port": port, "target_port": port, "protocol": "TCP"}],
        },
        opts=ResourceOptions.merge(ground.opts, ResourceOptions(depends_on=[after])),
    )


def register_headless_service(ground: Placement, name: str, port: int, pods: Mapping[str, str]) -> Service:
    """A headless Service with the address of every pod, also of those not ready or terminating."""
    return _register_address(ground, name, port, pods, publish_not_ready_addresses=True)


def _register_address(
    ground: Placement, name: str, port: int, pods: Mapping[str, str], *, publish_not_ready_addresses: bool = False
) -> Service:
    """A headless Service. Nothing waits for its endpoints."""
    return Service(
        f"{name}-service",
        metadata=metadata(name, ground.namespace, labels(name, MONITORING), SKIP_AWAIT),
        spec={
            "type": "ClusterIP",
            "cluster_ip": "None",
            "selector": dict(pods),
            "ports": [{"name": "http", "port": port, "target_port": port, "protocol": "TCP"}],
            "publish_not_ready_addresses": publish_not_ready_addresses,
        },
        opts=ground.opts,
    )


def register_files(
    ground: Placement, name: str, content: Mapping[str, str], kind: Mapping[str, str] | None = None
) -> str:
    """Name of an immutable ConfigMap: other content has another name, and pods that mount it are replaced."""
    full_name = f"{name}-{content_hash(content)}"
    ConfigMap(
        full_name,
        metadata=metadata(full_name, ground.namespace, {**labels(name, MONITORING), **(kind or {})}),
        immutable=True,
        data=dict(content),
        opts=ground.opts,
    )
    return full_name


def _template(ground: Placement, pod: Pod, identity: ServiceAccount, *, kept_at: str | None = None, **more: Any) -> Any:
    volumes = {f"files-{place}": (path, volume) for place, (path, volume) in enumerate((pod.volumes or {}).items())}
    mounts: list[Any] = [{"name": name, "mount_path": path, "read_only": True} for name, (path, _) in volumes.items()]
    if kept_at:
        mounts.append({"name": DATA, "mount_path": kept_at})
    return template(
        pod.name,
        MONITORING,
        service_account=identity.metadata.apply(lambda meta: meta.name or ""),
        uid=APPLICATION_UID,
        containers=[_container(ground, pod, mounts)],
        volumes=[cast(VolumeArgsDict, {"name": name, **volume}) for name, (_, volume) in volumes.items()],
        **more,
    )


def _container(ground: Placement, pod: Pod, mounts: Sequence[Any]) -> ContainerArgsDict:
    ready: ProbeArgsDict = {"http_get": {"path": pod.ready, "port": pod.port}, "timeout_seconds": 5}
    alive: ProbeArgsDict = (
        {"http_get": {"path": pod.alive, "port": pod.port}} if pod.alive else {"tcp_socket": {"port": pod.port}}
    )
    more: dict[str, Any] = {"env_from": [{"secret_ref": {"name": pod.login}}]} if pod.login else {}
    return container(
        pod.name,
        image=ground.image,
        amounts=pod.amounts,
        command=pod.command,  # type: ignore[arg-type]
        mounts=mounts,
        ports=[{"name": "http", "container_port": pod.port, "protocol": "TCP"}],
        # A server reads its stored data first.
        startup_probe={**ready, "period_seconds": 1, "failure_threshold": 300},
        readiness_probe={**ready, "period_seconds": 5},
        liveness_probe={**alive, "timeout_seconds": 5, "period_seconds": 20, "failure_threshold": 6},
        **more,
    )
