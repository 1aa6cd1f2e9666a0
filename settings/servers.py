"""Monitoring servers: addresses, sizes and readers (Runbook de Production §6)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from settings.base import Bytes, Cidr, DnsLabel, Finding, HostName, PortNumber, Settings
from settings.containers import Resources, resources
from settings.peers import Peer
from settings.platform import Egress


class FrontDoor(Settings):
    """How the public address is probed."""

    address: Annotated[str | None, Field(pattern=r"^https?://[^/]+$", examples=["http://traefik.traefik.svc"])] = None
    """Address that is probed if pods cannot reach the public one; default: the public URL."""
    path: Annotated[str | None, Field(pattern=r"^/", examples=["/api/live"])] = None
    """Path that is probed; default: the liveness path of the first service behind the ingress."""
    egress: tuple[Egress, ...] = ()
    """Its addresses, if they are neither the ingress controller's nor among `runbook:network.egress`."""


class Source(Settings):
    """An exporter that belongs to the cluster."""

    host: Annotated[HostName, Field(examples=["node-exporter.monitoring.svc.cluster.local"])]
    """DNS name; of a headless Service, every address is scraped."""
    port: PortNumber
    """Port of its metrics."""
    pods: Peer
    """Its pods, for the network policies."""


class Gateway(Source):
    """Metrics of the ingress controller: its own answers 502, 503 and 504, while a service does not answer; and every
    request, where `requests.preset` says so."""

    controller: Literal["traefik", "ingress-nginx"] = "traefik"
    """Whose metrics they are. Traefik: with `--metrics.prometheus`, by default on port 8080 or 9100; ingress-nginx:
    with `--enable-metrics`, port 10254."""


class Kubelet(Settings):
    """Containers and volumes, from the kubelet of every node: Prometheus gets a ServiceAccount that may read the
    metrics of nodes, and nothing else."""

    host: Annotated[HostName | None, Field(examples=["kubelet.kube-system.svc.cluster.local"])] = None
    """DNS name with the address of every node: a headless Service, such as the one of the Prometheus Operator."""
    addresses: Annotated[tuple[str, ...], Field(examples=[["10.20.0.11", "10.20.0.12"]])] = ()
    """Or the nodes' addresses, if they never change."""
    port: PortNumber = 10250
    """Port of kubelets."""
    egress: Annotated[tuple[Cidr, ...], Field(min_length=1, examples=[["10.20.0.0/16"]])]
    """Addresses of nodes, for the network policies."""
    insecure: bool = False
    """Do not verify certificates: kubelets have some that the cluster's CA has not signed."""

    def _findings(self) -> list[Finding]:
        if (self.host is None) == (not self.addresses):
            return [Finding(("host",), "nodes are found by a name or by addresses", "kubelet.kube-system.svc")]
        return []


class Prometheus(Settings):
    """Prometheus."""

    storage: Bytes = "10Gi"
    """Size of the volume."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    retention_days: Annotated[int, Field(ge=1, le=365)] = 31
    """Days of retention: the error budget covers 30."""
    retention_percent: Annotated[int, Field(ge=5, le=80)] = 70
    """Part of the volume, in percent, above which the oldest metrics are deleted; at least 15 below
    `infrastructure.diskPercent`."""
    sample_limit: Annotated[int, Field(ge=100)] = 20_000
    """Most series of one pod of a service. Above it the scrape is refused, and SamplesNearLimit fires before: an
    application that labels raw paths would fill Prometheus' memory."""
    label_limit: Annotated[int, Field(ge=10)] = 50
    """Most labels of a series of a service."""
    label_value_length: Annotated[int, Field(ge=100)] = 2000
    """Longest value of a label of a service's series."""
    resources: Resources = resources("100m", "256Mi", "64Mi", limits=("1", "1Gi", "256Mi"))
    """CPU, memory and scratch disk."""
    kubelet: Kubelet | None = None
    """Metrics of containers (`infrastructure.kubelet`)."""
    nodes: Source | None = None
    """node_exporter (`infrastructure.nodes`)."""
    kube_state: Source | None = None
    """kube-state-metrics (`infrastructure.kubeState`)."""
    ingress: Gateway | None = None
    """The ingress controller: with it, its errors roll a release back too (RollbackGateway). Required where it counts
    the requests (`requests.preset`)."""
    readers: tuple[Peer, ...] = ()
    """Pods that may query it, such as Grafana."""


class Alertmanager(Settings):
    """Alertmanager. Its volume holds silences and the log of notifications."""

    storage: Bytes = "256Mi"
    """Size of the volume."""
    storage_class: DnsLabel | None = None
    """Storage class; without it, the cluster's default."""
    resources: Resources = resources("20m", "48Mi", "32Mi", limits=("500m", "192Mi", "64Mi"))
    """CPU, memory and scratch disk."""


class OperatorAlertmanager(Settings):
    """The operator's Alertmanager: it calls the rollback controller, which queries whether an alert fires."""

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
    """A Prometheus Operator that the cluster already has."""

    labels: dict[str, str] = {}
    """Labels by which its Prometheus and Alertmanager select objects (often `release: …`)."""
    prometheus: Annotated[
        Peer, Field(examples=[{"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "prometheus"}}])
    ]
    """Pods of its Prometheus: network policies admit them to what they scrape."""
    alertmanager: OperatorAlertmanager | None = None
    """Its Alertmanager; required for the rollback controller."""
