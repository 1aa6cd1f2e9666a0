"""Network policies of monitoring: from each server to what it scrapes or calls, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.networking.v1 import NetworkPolicy, NetworkPolicyPeerArgsDict

from components.base.names import BACKUP_EXPORTER, POSTGRES, REDIS, labels, metadata, selector
from components.base.network_policies import peer, peers, register_egress_policy, register_service_policies
from components.monitoring.workloads import MONITORING
from monitoring.prometheus import ALERTMANAGER, BLACKBOX, PORTS, POSTGRES_EXPORTER, REDIS_EXPORTER, MonitoredStack
from settings import Egress, External, NetworkPeer
from settings.backup import EXPORTER_PORT
from settings.names import CONTROLLER

PROMETHEUS = "prometheus"
_Peers = Sequence[Mapping[str, Any]]
_Way = tuple[_Peers, Sequence[int]]


@dataclass(frozen=True)
class MonitoringPolicies:
    """Network policies of monitoring in one namespace."""

    parent: pulumi.ComponentResource
    namespace: Input[str]
    opts: ResourceOptions
    watched: MonitoredStack

    def prometheus(self, controller_port: int | None) -> None:
        """The stack's own Prometheus scrapes the whole stack and sends alerts to Alertmanager."""
        reader, kept = _pods(PROMETHEUS), self.watched.monitoring.prometheus
        to: list[_Way] = [
            *(([_pods(name)], [PORTS[name]]) for name in self.watched.exporters),
            ([_pods(ALERTMANAGER)], [PORTS[ALERTMANAGER]]),
        ]
        if self.watched.backup:
            to.append(([_backups()], [EXPORTER_PORT]))
        if controller_port:
            to.append(([_controller()], [controller_port]))
        if gateway := self.watched.monitoring.gateway:
            to.append(([peer(gateway.pods)], [gateway.port]))
        infrastructure = self.watched.monitoring.infrastructure
        for wanted, source in ((infrastructure.nodes, kept.nodes), (infrastructure.kube_state, kept.kube_state)):
            if wanted and source:
                to.append(([peer(source.pods)], [source.port]))
        if infrastructure.kubelet and kept.kubelet:
            to.append(([{"ip_block": {"cidr": cidr}} for cidr in kept.kubelet.egress], [kept.kubelet.port]))
        self._out("allow-prometheus", reader, to)
        let_in = [([peer(one) for one in kept.readers], [PORTS[PROMETHEUS]])] if kept.readers else []
        self._in("allow-into-prometheus", reader, let_in)
        asks = [_pods(PROMETHEUS), *([_controller()] if controller_port else [])]
        self._in("allow-into-alertmanager", _pods(ALERTMANAGER), [(asks, [PORTS[ALERTMANAGER]])])
        self._into_services(PROMETHEUS)
        self.read_by([reader])

    def read_by(self, readers: _Peers) -> None:
        """Ingress from readers of metrics to exporters."""
        for name in self.watched.exporters:
            self._in(f"allow-into-{name}", _pods(name), [(readers, [PORTS[name]])])
        if self.watched.backup:
            self._in("allow-metrics-of-backups", _backups(), [(readers, [EXPORTER_PORT])])

    def alertmanager(self, egress: Sequence[Egress], controller_port: int | None) -> None:
        """Egress to Slack, the dead man's switch and the rollback controller."""
        to = [_outside(one) for one in (*egress, *self.watched.monitoring.slack.egress)]
        if controller_port:
            to.append(([_controller()], [controller_port]))
        self._out("allow-alertmanager", _pods(ALERTMANAGER), to)

    def http_checks(self, egress: Sequence[Egress], ingress_controller: NetworkPeer | None) -> None:
        """To the services, and egress to the front door: the ingress controller's pods, or its address."""
        operator = self.watched.monitoring.operated
        self._into_services(BLACKBOX, [peer(operator.prometheus)] if operator else [])
        to: list[_Way] = [
            # Its port depends on the cluster.
            *([(peers(ingress_controller), [])] if ingress_controller else []),
            *(_outside(one) for one in (*egress, *self.watched.monitoring.front_door.egress)),
        ]
        self._out("allow-http-checks", _pods(BLACKBOX), to)

    def data(self, postgres: External | object, redis: External | object | None) -> None:
        """Egress of each exporter to its server, if there is one."""
        for name, server, port, store in (
            (POSTGRES_EXPORTER, POSTGRES, 5432, postgres),
            (REDIS_EXPORTER, REDIS, 6379, redis),
        ):
            if store is None:
                continue
            if isinstance(store, External):
                register_egress_policy(
                    self.parent, f"allow-{name}", self.namespace, store.egress, _pods(name)["pod_selector"]
                )
            else:
                way = [([_pods(name)], [port])]
                self._out(
                    f"allow-{name}",
                    _pods(name),
                    [([{"pod_selector": {"match_labels": selector(server, server)}}], [port])],
                )
                self._in(
                    f"allow-{name}-into-{server}", {"pod_selector": {"match_labels": selector(server, server)}}, way
                )

    def _into_services(self, name: str, from_outside: Sequence[NetworkPolicyPeerArgsDict] = ()) -> None:
        register_service_policies(
            name,
            {"match_labels": selector(name, MONITORING)},
            [service.port for service in self.watched.application.services],
            self.namespace,
            self.opts,
            from_outside=from_outside,
            of=MONITORING,
        )

    def _out(self, name: str, who: Mapping[str, Any], to: Sequence[_Way]) -> None:
        rules = [{"to": list(peers), **_ports(ports)} for peers, ports in to]
        self._policy(name, {**who, "policy_types": ["Egress"], "egress": rules})

    def _in(self, name: str, who: Mapping[str, Any], from_: Sequence[_Way]) -> None:
        rules = [{"from_": list(peers), **_ports(ports)} for peers, ports in from_]
        self._policy(name, {**who, "policy_types": ["Ingress"], "ingress": rules})

    def _policy(self, name: str, spec: Mapping[str, Any]) -> None:
        NetworkPolicy(
            name,
            metadata=metadata(name, self.namespace, labels(name, MONITORING)),
            spec=dict(spec),  # type: ignore[arg-type]
            opts=self.opts,
        )


def _pods(name: str) -> dict[str, Any]:
    return {"pod_selector": {"match_labels": selector(name, MONITORING)}}


def _backups() -> dict[str, Any]:
    return {"pod_selector": {"match_labels": selector(BACKUP_EXPORTER, BACKUP_EXPORTER)}}


def _controller() -> dict[str, Any]:
    return {"pod_selector": {"match_labels": selector(CONTROLLER, CONTROLLER)}}


def _outside(to: Egress) -> _Way:
    return [{"ip_block": {"cidr": to.cidr, "except_": list(to.except_)}}], to.ports


def _ports(ports: Sequence[int]) -> dict[str, Any]:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in ports]} if ports else {}
