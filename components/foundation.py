"""Namespace and guards: what holds whatever is put into the namespace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import LimitRange, Namespace, ResourceQuota
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyEgressRuleArgsDict,
    NetworkPolicyPeerArgsDict,
    NetworkPolicyPortArgsDict,
    NetworkPolicySpecArgsDict,
)

from components.base.names import JOB, SERVICE, labels, metadata, selector
from settings import Egress, Guards, Peer


@dataclass(frozen=True, kw_only=True)
class FoundationArgs:
    """What the namespace is called and what it allows."""

    namespace: Input[str]
    """Name of the namespace."""
    guards: Guards
    """Quota, and whether data is protected from deletion."""
    dns: Peer
    """The cluster's DNS, which every pod may ask."""
    egress: Sequence[Egress]
    """What services and Jobs may call outside the cluster."""


class Foundation(pulumi.ComponentResource):
    """A namespace with Pod Security `restricted`, a quota, default limits and closed networking."""

    namespace: pulumi.Output[str]
    """Name of the namespace; whoever uses it waits for the namespace."""

    def __init__(self, name: str, args: FoundationArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:foundation:Foundation", name, None, opts)
        modes = ("enforce", "warn", "audit")
        namespace = Namespace(
            "namespace",
            metadata=metadata(
                args.namespace,
                None,
                {
                    **labels("namespace", "foundation"),
                    **{f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes},
                    **{f"pod-security.kubernetes.io/{mode}-version": "latest" for mode in modes},
                },
            ),
            # Deleting the namespace deletes the volumes: only somebody who says so may.
            opts=ResourceOptions(parent=self, protect=args.guards.protect_data),
        )
        self.namespace = namespace.metadata.apply(lambda meta: meta.name or "")
        self._limits(args.guards)
        self._network(args)
        self.register_outputs({"namespace": self.namespace})

    def _limits(self, guards: Guards) -> None:
        quota = guards.quota
        ResourceQuota(
            "quota",
            metadata=metadata("quota", self.namespace, labels("quota", "foundation")),
            spec={
                "hard": {
                    "requests.cpu": quota.cpu,
                    "requests.memory": quota.memory,
                    "limits.cpu": quota.limits_cpu,
                    "limits.memory": quota.limits_memory,
                    "pods": str(quota.pods),
                    "requests.storage": quota.storage,
                }
            },
            opts=ResourceOptions(parent=self),
        )
        LimitRange(
            "limits",
            metadata=metadata("limits", self.namespace, labels("limits", "foundation")),
            # Only for pods that say nothing themselves (a debugging pod); ours all do.
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default_request": {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
                        "default": {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "256Mi"},
                    }
                ]
            },
            opts=ResourceOptions(parent=self),
        )

    def _network(self, args: FoundationArgs) -> None:
        NetworkPolicy(
            "default-deny",
            metadata=metadata("default-deny", self.namespace, labels("default-deny", "foundation")),
            spec={"pod_selector": {}, "policy_types": ["Ingress", "Egress"]},
            opts=ResourceOptions(parent=self),
        )
        ports: list[NetworkPolicyPortArgsDict] = [
            {"port": port, "protocol": kind} for port in args.dns.ports for kind in ("UDP", "TCP")
        ]
        NetworkPolicy(
            "allow-dns",
            metadata=metadata("allow-dns", self.namespace, labels("allow-dns", "foundation")),
            spec={
                "pod_selector": {},
                "policy_types": ["Egress"],
                "egress": [{"to": [peer(args.dns)], "ports": ports}],
            },
            opts=ResourceOptions(parent=self),
        )
        register_egress_policy(self, "allow-outside", self.namespace, args.egress)


def peer(of: Peer) -> NetworkPolicyPeerArgsDict:
    """Another namespace's pods as a network policy names them."""
    return {
        "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": of.namespace}},
        "pod_selector": {"match_labels": dict(of.pod_labels)},
    }


def egress_rules(egress: Sequence[Egress]) -> list[NetworkPolicyEgressRuleArgsDict]:
    """Addresses outside the cluster as a network policy names them."""
    return [
        {
            "to": [{"ip_block": {"cidr": to.cidr, "except_": list(to.except_)}}],
            "ports": [{"port": port, "protocol": "TCP"} for port in to.ports],
        }
        for to in egress
    ]


def register_egress_policy(
    parent: pulumi.ComponentResource,
    name: str,
    namespace: Input[str],
    egress: Sequence[Egress],
    who: LabelSelectorArgsDict | None = None,
) -> NetworkPolicy | None:
    """Lets services and Jobs, or somebody else, reach addresses outside the cluster."""
    if not egress:
        return None
    return NetworkPolicy(
        name,
        metadata=metadata(name, namespace, labels(name, "foundation")),
        spec={"pod_selector": who or select_clients(), "policy_types": ["Egress"], "egress": egress_rules(egress)},
        opts=ResourceOptions(parent=parent),
    )


def register_data_policies(
    parent: pulumi.ComponentResource, part: str, server: str, port: int, namespace: Input[str], opts: ResourceOptions
) -> Sequence[NetworkPolicy]:
    """Lets everything that plays a part reach one of the data services: both sides of the way are closed otherwise."""
    there: LabelSelectorArgsDict = {"match_labels": selector(server, server)}
    ports: list[NetworkPolicyPortArgsDict] = [{"port": port, "protocol": "TCP"}]
    ways: list[tuple[str, NetworkPolicySpecArgsDict]] = [
        (
            f"allow-{part}-to-{server}",
            {
                "pod_selector": select_parts(part),
                "policy_types": ["Egress"],
                "egress": [{"to": [{"pod_selector": there}], "ports": ports}],
            },
        ),
        (
            f"allow-{part}-into-{server}",
            {
                "pod_selector": there,
                "policy_types": ["Ingress"],
                "ingress": [{"from_": [{"pod_selector": select_parts(part)}], "ports": ports}],
            },
        ),
    ]
    return [
        NetworkPolicy(
            name,
            metadata=metadata(name, namespace, labels(name, part)),
            spec=spec,
            opts=ResourceOptions.merge(opts, ResourceOptions(parent=parent)),
        )
        for name, spec in ways
    ]


def select_clients() -> LabelSelectorArgsDict:
    """Selects the services and the Jobs: all that runs the application's image."""
    return select_parts(SERVICE, JOB)


def select_parts(*components: str) -> LabelSelectorArgsDict:
    """Selects everything that plays one of these parts."""
    key = "app.kubernetes.io/component"
    return {"match_expressions": [{"key": key, "operator": "In", "values": list(components)}]}
