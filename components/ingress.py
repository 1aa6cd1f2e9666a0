"""Ingress (runbook-de-production §3.3): which clients may call the services, and where the ingress routes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.networking.v1 import Ingress as KubernetesIngress
from pulumi_kubernetes.networking.v1 import (
    IngressRuleArgsDict,
    IngressServiceBackendArgsDict,
    IngressTLSArgsDict,
    NetworkPolicy,
)

from components.base.names import SERVICE_PORT, SKIP_AWAIT, labels, metadata
from components.base.network_policies import peers, register_port_policies, register_service_policies, select_clients
from components.lockdown import Lockdown
from settings import Ingress, NetworkPeer
from settings import Service as ServiceSettings

_NO_PODS_HERE = {"kube-score/ignore": "networkpolicy-targets-pod"}
"""On the policy of the solver, whose pods cert-manager starts: a linter looks for them among this program's."""
_ISSUERS = ("cert-manager.io/issuer", "cert-manager.io/cluster-issuer")
"""Annotations that make cert-manager issue the ingress's certificate."""


def register_ingress(
    name: str,
    namespace: Input[str],
    kind: Mapping[str, str],
    wanted: Ingress,
    rule: IngressRuleArgsDict,
    opts: ResourceOptions,
) -> KubernetesIngress:
    """An ingress of one host, always with TLS."""
    tls: IngressTLSArgsDict = {"hosts": [wanted.host]}
    if wanted.tls.secret_name:
        tls["secret_name"] = wanted.tls.secret_name
    annotations = {**SKIP_AWAIT, **wanted.annotations, **wanted.limits}
    return KubernetesIngress(
        name,
        metadata=metadata(name, namespace, kind, annotations),
        spec={"ingress_class_name": wanted.class_name, "tls": [tls], "rules": [rule]},
        opts=opts,
    )


def allow_solver(
    name: str, namespace: Input[str], ingress: Ingress, ingress_controller: NetworkPeer, opts: ResourceOptions
) -> None:
    """From the ingress controller to the pods that cert-manager starts to answer HTTP-01 challenges, where it issues
    the ingress's certificate."""
    if not any(key in ingress.annotations for key in _ISSUERS):
        return
    NetworkPolicy(
        name,
        metadata=metadata(name, namespace, labels("services", "application"), _NO_PODS_HERE),
        spec={
            "pod_selector": {"match_labels": {"acme.cert-manager.io/http01-solver": "true"}},
            "policy_types": ["Ingress"],
            "ingress": [{"from_": peers(ingress_controller), "ports": [{"port": 8089, "protocol": "TCP"}]}],
        },
        opts=opts,
    )


@dataclass(frozen=True, kw_only=True)
class IngressRules:
    """The ingress and the network policies of its backends."""

    namespace: Input[str]
    """Where it is."""
    services: Sequence[ServiceSettings]
    """The services behind it."""
    ingress: Ingress | None
    """Host, class, certificate. Without one, only the services call one another."""
    ingress_controller: NetworkPeer | None
    """The only client from outside the namespace that may call the services."""
    divert_to: Input[str] | None = None
    """Under maintenance, the Service that the ingress routes to instead of the services."""
    lockdown: Lockdown | None = None
    """Under lockdown, the gate in front of them."""

    def register(
        self, opts: ResourceOptions, register_services: Callable[[Sequence[pulumi.Resource]], Sequence[pulumi.Resource]]
    ) -> None:
        """Under lockdown, switch the ingress first, then close the policies; on unlock the other way round.

        `register_services` makes what waits for the policies that let clients in, the services, and returns what the
        ingress waits for: a path leads to another service once its pods are ready. A service that is gone, and the
        policies of a port that is gone, are deleted at the end of the update, by the engine. The gate and the
        maintenance page wait for no service, which may be what is broken.
        """
        if self.lockdown and self.ingress:
            ingress = self._ingress(self.ingress, opts)
            self._policies(ResourceOptions.merge(opts, ResourceOptions(depends_on=[ingress])))
            register_services([])
            return
        policies = self._policies(opts)
        serving = register_services(policies)
        if self.ingress:
            waits = [*policies, *([] if self.divert_to else serving)]
            self._ingress(self.ingress, ResourceOptions.merge(opts, ResourceOptions(depends_on=waits)))

    def _policies(self, opts: ResourceOptions) -> Sequence[pulumi.Resource]:
        """From the ingress controller, or the gate, and from one another to the services' ports."""
        # The gate has an opening of its own, which is there before the ingress leads to it.
        outside = [] if self.lockdown or not self.ingress_controller else peers(self.ingress_controller)
        if self.ingress and self.ingress_controller:
            allow_solver("allow-into-acme-solver", self.namespace, self.ingress, self.ingress_controller, opts)
        ports = [service.port for service in self.services]
        made = register_service_policies(
            "clients", select_clients(), ports, self.namespace, opts, from_outside=outside, of="application"
        )
        for service in self.services:
            for port in service.more_ports:
                made += register_port_policies(service, port, self.namespace, opts, outside=self.lockdown is None)
        return made

    def _ingress(self, wanted: Ingress, opts: ResourceOptions) -> pulumi.Resource:
        rule: IngressRuleArgsDict = {
            "host": wanted.host,
            "http": {
                "paths": [
                    {"path": path, "path_type": "Prefix", "backend": {"service": self._leads_to(service)}}
                    for service in self.services
                    for path in service.paths
                ]
            },
        }
        return register_ingress("ingress", self.namespace, labels("ingress", "application"), wanted, rule, opts)

    def _leads_to(self, service: ServiceSettings) -> IngressServiceBackendArgsDict:
        if self.divert_to is None and self.lockdown:
            return {"name": self.lockdown.service_name, "port": {"number": self.lockdown.ports[service.name]}}
        return {"name": self.divert_to or service.name, "port": {"name": SERVICE_PORT}}
