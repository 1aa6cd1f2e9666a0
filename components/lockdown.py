"""Lockdown (HerbisVeritas "Emergency Commands": `security:lockdown`): a gate between the ingress and the services.

The services' pods do not change. The gate cannot be bypassed: only the ingress controller may connect to it, and the
services admit the gate instead of the ingress controller (components/ingress.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ConfigMap, HTTPGetActionArgsDict, Service, ServicePortArgsDict
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyPortArgsDict,
)

from components.base.names import LOCKDOWN, SKIP_AWAIT, content_hash, labels, metadata, selector
from components.base.network_policies import peers, register_service_policies
from components.base.pods import (
    APPLICATION_UID,
    OLD_REVISIONS,
    container,
    register_budget,
    register_service_account,
    spread,
    template,
)
from components.lockdown_gateway import ANSWER_SECONDS, ANY_ADDRESS, FINISHING, PROBE_PORT, Route, render_haproxy_config
from settings import Lockdown as LockdownSettings
from settings import NetworkPeer
from settings import Service as ServiceSettings
from settings.lockdown import GATE_PORT, GATE_RESOURCES

_FOLDER = "/etc/gate"
_LEAVING = 5
"""preStop delay, so that proxies drop the endpoint first, in seconds."""


@dataclass(frozen=True, kw_only=True)
class LockdownArgs:
    """Admitted clients, the services behind the gate, the ingress controller."""

    namespace: Input[str]
    """The gate's namespace."""
    image: Input[str]
    """The project's own image."""
    lockdown: LockdownSettings
    """Admitted clients, and the end of the lockdown."""
    services: Sequence[ServiceSettings]
    """The services behind the gate."""
    ingress_controller: NetworkPeer
    """The only client of the gate, which trusts the client addresses that it forwards."""
    answer_seconds: int = ANSWER_SECONDS
    """Seconds that the gate waits for an answer of a service."""


class Lockdown(pulumi.ComponentResource):
    """The gate, to which the ingress can route."""

    service_name: pulumi.Output[str]
    """Service of the gate; it has pods that answer."""
    ports: Mapping[str, int]
    """The gate's port for each service; the ingress controller alone maps paths to services."""

    def __init__(self, name: str, args: LockdownArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:lockdown:Lockdown", name, None, opts)
        self._args = args
        self._inside = ResourceOptions(parent=self, depends_on=opts.depends_on if opts else None)
        self._named = metadata(LOCKDOWN, args.namespace, labels(LOCKDOWN, LOCKDOWN))
        self._here: LabelSelectorArgsDict = {"match_labels": selector(LOCKDOWN, LOCKDOWN)}
        ported = [(service.name, service.port) for service in args.services if service.port]
        routes = [Route(GATE_PORT + index, service, port) for index, (service, port) in enumerate(ported)]
        self.ports = {route.service: route.port for route in routes}
        openings = self._openings(routes)
        deployment = self._deployment(routes, openings)
        ports: list[ServicePortArgsDict] = [
            {"name": f"way-{route.port}", "port": route.port, "target_port": route.port, "protocol": "TCP"}
            for route in routes
        ]
        service = Service(
            "lockdown-service",
            metadata=metadata(LOCKDOWN, args.namespace, labels(LOCKDOWN, LOCKDOWN), SKIP_AWAIT),
            spec={"type": "ClusterIP", "selector": selector(LOCKDOWN, LOCKDOWN), "ports": ports},
            opts=self._inside,
        )
        # The ingress depends on this output: the pods are ready by then, and the Service has their addresses.
        self.service_name = deployment.id.apply(lambda _: service.metadata.apply(lambda meta: meta.name or ""))
        self.register_outputs({})

    def _deployment(self, routes: Sequence[Route], openings: Sequence[pulumi.Resource]) -> Deployment:
        args = self._args
        data = {"haproxy.cfg": render_haproxy_config(args.lockdown, routes, args.answer_seconds)}
        config = f"{LOCKDOWN}-gate-{content_hash(data)}"
        ConfigMap(
            config,
            metadata=metadata(config, args.namespace, labels(LOCKDOWN, LOCKDOWN)),
            immutable=True,
            data=data,
            opts=self._inside,
        )
        account = register_service_account(LOCKDOWN, LOCKDOWN, args.namespace, self._inside)
        # HAProxy resolves names once, and exits when one is missing: a stack's first update creates the Services later.
        names = " ".join(route.service for route in routes)
        wait = f"for name in {names}; do until getent hosts $name > /dev/null; do sleep 0.2; done; done"
        alive: HTTPGetActionArgsDict = {"path": "/", "port": PROBE_PORT}
        gate = container(
            LOCKDOWN,
            image=args.image,
            amounts=GATE_RESOURCES,
            command=["sh", "-c", f"{wait}; {ANY_ADDRESS}; exec /usr/sbin/haproxy -db -f {_FOLDER}/haproxy.cfg"],
            mounts=[{"name": "gate", "mount_path": _FOLDER, "read_only": True}],
            ports=[{"name": f"way-{route.port}", "container_port": route.port, "protocol": "TCP"} for route in routes],
            startup_probe={"http_get": alive, "period_seconds": 1, "failure_threshold": 600},
            readiness_probe={"tcp_socket": {"port": routes[0].port}, "period_seconds": 2},
            liveness_probe={"http_get": alive, "failure_threshold": 6},
            # As PID 1, HAProxy ignores SIGTERM; SIGUSR1 makes it finish open requests and exit.
            lifecycle={"pre_stop": {"exec_": {"command": ["sh", "-c", f"sleep {_LEAVING}; kill -USR1 1"]}}},
        )
        deployment = Deployment(
            LOCKDOWN,
            metadata=self._named,
            spec={
                "replicas": 2,
                "revision_history_limit": OLD_REVISIONS,
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 2, "max_unavailable": 0}},
                "selector": self._here,
                "template": template(
                    LOCKDOWN,
                    LOCKDOWN,
                    service_account=account.metadata.apply(lambda meta: meta.name or ""),
                    uid=APPLICATION_UID,
                    containers=[gate],
                    termination_grace_period_seconds=_LEAVING + 2 * FINISHING,
                    volumes=[{"name": "gate", "config_map": {"name": config}}],
                    **spread(self._here),
                ),
            },
            opts=ResourceOptions.merge(self._inside, ResourceOptions(depends_on=openings)),
        )
        register_budget("lockdown-budget", self._named, self._here, self._inside)
        return deployment

    def _openings(self, routes: Sequence[Route]) -> list[pulumi.Resource]:
        """Ingress from the ingress controller, egress to the services, and no others."""
        mine: list[NetworkPolicyPortArgsDict] = [{"port": route.port, "protocol": "TCP"} for route in routes]
        name, namespace = "allow-into-lockdown", self._args.namespace
        from_controller = NetworkPolicy(
            name,
            metadata=metadata(name, namespace, labels(name, LOCKDOWN)),
            spec={
                "pod_selector": self._here,
                "policy_types": ["Ingress"],
                "ingress": [{"from_": peers(self._args.ingress_controller), "ports": mine}],
            },
            opts=self._inside,
        )
        theirs = [route.target for route in routes]
        to_services = register_service_policies(LOCKDOWN, self._here, theirs, namespace, self._inside, of=LOCKDOWN)
        return [from_controller, *to_services]
