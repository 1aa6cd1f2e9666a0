"""Network policies that several components use: peers, egress and ports of the data services."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyEgressRuleArgsDict,
    NetworkPolicyPeerArgsDict,
    NetworkPolicyPortArgsDict,
    NetworkPolicySpecArgsDict,
)

from components.base.names import JOB, SERVICE, SERVICE_PORT, labels, metadata, selector
from settings import Egress, NetworkPeer, Peer

SERVICE_PORTS: list[NetworkPolicyPortArgsDict] = [{"port": SERVICE_PORT, "protocol": "TCP"}]
"""Ports of the services, by name: while a port is changed, pods with the old number and with the new are reached."""


def peer(of: Peer) -> NetworkPolicyPeerArgsDict:
    """Another namespace's pods as a network policy names them."""
    return {
        "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": of.namespace}},
        "pod_selector": {"match_labels": dict(of.pod_labels)},
    }


def peers(of: NetworkPeer) -> list[NetworkPolicyPeerArgsDict]:
    """A neighbour's pods and addresses as a network policy names them."""
    found: list[NetworkPolicyPeerArgsDict] = []
    if of.namespace:
        found.append(peer(Peer(namespace=of.namespace, pod_labels=of.pod_labels)))
    return [*found, *({"ip_block": {"cidr": cidr}} for cidr in of.cidrs)]


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
    pods: LabelSelectorArgsDict | None = None,
) -> NetworkPolicy | None:
    """Lets services and Jobs, or the selected pods, reach addresses outside the cluster."""
    if not egress:
        return None
    return NetworkPolicy(
        name,
        metadata=metadata(name, namespace, labels(name, "foundation")),
        spec={"pod_selector": pods or select_clients(), "policy_types": ["Egress"], "egress": egress_rules(egress)},
        opts=ResourceOptions(parent=parent),
    )


def register_data_policies(
    parent: pulumi.ComponentResource, part: str, server: str, port: int, namespace: Input[str], opts: ResourceOptions
) -> Sequence[NetworkPolicy]:
    """Lets the pods of a part reach a data service: egress of the pods and ingress of the server."""
    server_pods: LabelSelectorArgsDict = {"match_labels": selector(server, server)}
    ports: list[NetworkPolicyPortArgsDict] = [{"port": port, "protocol": "TCP"}]
    policies: list[tuple[str, NetworkPolicySpecArgsDict]] = [
        (
            f"allow-{part}-to-{server}",
            {
                "pod_selector": select_parts(part),
                "policy_types": ["Egress"],
                "egress": [{"to": [{"pod_selector": server_pods}], "ports": ports}],
            },
        ),
        (
            f"allow-{part}-into-{server}",
            {
                "pod_selector": server_pods,
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
        for name, spec in policies
    ]


def select_clients() -> LabelSelectorArgsDict:
    """Selects the services and the Jobs: everything that runs the application's image."""
    return select_parts(SERVICE, JOB)


def select_parts(*components: str) -> LabelSelectorArgsDict:
    """Selects the pods of these parts."""
    key = "app.kubernetes.io/component"
    return {"match_expressions": [{"key": key, "operator": "In", "values": list(components)}]}
