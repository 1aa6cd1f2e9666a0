"""What watches: where the servers are, how large they are, and who may read them (Runbook de Production §6)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from settings.application import Resources, resources
from settings.base import Bytes, Cidr, DnsLabel, Finding, HostName, PortNumber, Settings, quantity
from settings.platform import Egress, Peer


class FrontDoor(Settings):
    """How the shop is asked as customers ask it."""

    address: Annotated[str | None, Field(pattern=r"^https?://[^/]+$", examples=["http://traefik.traefik.svc"])] = None
    """Where the public host name is asked for, where pods cannot reach its own address; without it, the public URL."""
    path: Annotated[str | None, Field(pattern=r"^/", examples=["/api/live"])] = None
    """What is asked; without it, the liveness path of the first service that the ingress leads to."""
    egress: tuple[Egress, ...] = ()
    """Its addresses, where they are neither the ingress controller's nor among `runbook:network.egress`."""


class Source(Settings):
    """Somebody else's exporter in the cluster."""

    host: Annotated[HostName, Field(examples=["node-exporter.monitoring.svc.cluster.local"])]
    """Its name in DNS; of a headless Service, every address is read."""
    port: PortNumber
    """Port of its metrics."""
    pods: Peer
    """Its pods, for the network policies."""


class Kubelet(Settings):
    """Containers and volumes, from every node's kubelet: Prometheus then gets an identity that may read the metrics of
    nodes, and nothing else of them."""

    host: Annotated[HostName | None, Field(examples=["kubelet.kube-system.svc.cluster.local"])] = None
    """Name in DNS that has every node's address: a headless Service, as the Prometheus Operator keeps one."""
    addresses: Annotated[tuple[str, ...], Field(examples=[["10.20.0.11", "10.20.0.12"]])] = ()
    """Or the nodes' addresses, where they never change."""
    port: PortNumber = 10250
    """Port of kubelets."""
    egress: Annotated[tuple[Cidr, ...], Field(min_length=1, examples=[["10.20.0.0/16"]])]
    """Addresses of nodes, for the network policies."""
    insecure: bool = False
    """Kubelets have certificates that the cluster's authority has not signed: theirs are not checked."""

    def _findings(self) -> list[Finding]:
        if (self.host is None) == (not self.addresses):
            return [Finding(("host",), "nodes are found by a name or by addresses", "kubelet.kube-system.svc")]
        return []


class Prometheus(Settings):
    """Where measurements are kept."""

    storage: Bytes = "10Gi"
    """Size of the volume. What does not fit in nine tenths of it goes, the oldest first."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    retention_days: Annotated[int, Field(ge=1, le=365)] = 31
    """Days that measurements are kept: the error budget is over 30."""
    resources: Resources = resources("100m", "256Mi", "64Mi", limits=("1", "1Gi", "256Mi"))
    """CPU, memory and scratch disk."""
    kubelet: Kubelet | None = None
    """How containers are watched (`infrastructure.kubelet`)."""
    nodes: Source | None = None
    """node_exporter (`infrastructure.nodes`)."""
    kube_state: Source | None = None
    """kube-state-metrics (`infrastructure.kubeState`)."""
    readers: tuple[Peer, ...] = ()
    """Who may ask it besides: Grafana."""

    @property
    def retention_bytes(self) -> int:
        return int(quantity(self.storage) * 9 / 10)


class Alertmanager(Settings):
    """Who tells. Its volume holds silences, and what has been told."""

    storage: Bytes = "256Mi"
    """Size of the volume."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    resources: Resources = resources("20m", "48Mi", "32Mi", limits=("500m", "192Mi", "64Mi"))
    """CPU, memory and scratch disk."""


class OperatorAlertmanager(Settings):
    """The operator's Alertmanager: it calls the rollback controller, which asks it whether an alert fires."""

    url: Annotated[
        str, Field(pattern=r"^http://[^/:]+:\d+$", examples=["http://alertmanager-operated.monitoring.svc:9093"])
    ]
    """Its API, as pods of the stack reach it: the name of its Service, and the port, which is that of its pods too."""
    pods: Annotated[
        Peer, Field(examples=[{"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "alertmanager"}}])
    ]
    """Its pods, for the network policies."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class Operator(Settings):
    """A Prometheus Operator that is there already."""

    labels: dict[str, str] = {}
    """Labels by which its Prometheus and Alertmanager choose what they read (often `release: …`)."""
    prometheus: Annotated[
        Peer, Field(examples=[{"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "prometheus"}}])
    ]
    """The pods of its Prometheus: they are let in to what they read."""
    alertmanager: OperatorAlertmanager | None = None
    """Its Alertmanager; required for the rollback controller."""
