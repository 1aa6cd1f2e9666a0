"""Network policies that several components use: peers, egress and ports of the data services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

from components.base.names import JOB, SERVICE, labels, metadata, selector
from settings import Egress, NetworkPeer, Peer, Service
from settings.service_ports import ServicePort


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
    return _register_ways(
        (f"allow-{part}-to-{server}", f"allow-{part}-into-{server}"),
        select_parts(part),
        {"match_labels": selector(server, server)},
        [port],
        namespace,
        part,
        ResourceOptions.merge(opts, ResourceOptions(parent=parent)),
    )


def register_service_policies(
    part: str,
    clients: LabelSelectorArgsDict,
    ports: Iterable[int | None],
    namespace: Input[str],
    opts: ResourceOptions,
    *,
    from_outside: Sequence[NetworkPolicyPeerArgsDict] = (),
    of: str,
) -> list[NetworkPolicy]:
    """Lets the clients of one part, and peers from outside the namespace, reach the services at these ports.

    The ports are numbers, and part of the policies' names. While a port is changed, pods with the old number and with
    the new one serve: the policies of the new number are made before the rollout, and the engine deletes those of the
    old number at the end. A named port would need no second policy, but kube-router (k3s has it too) refuses
    connections for a moment at each of its updates when one name means several numbers. `of`: the component in the
    labels. `None`: a service without a port; where none has one, nothing is let through.
    """
    numbers = sorted({port for port in ports if port})
    if not numbers:
        return []
    which = "-".join(map(str, numbers))
    return _register_ways(
        (f"allow-{part}-to-services-{which}", f"allow-{part}-into-services-{which}"),
        clients,
        select_parts(SERVICE),
        numbers,
        namespace,
        of,
        opts,
        named=part,
        from_outside=from_outside,
    )


def register_port_policies(
    service: Service,
    port: ServicePort,
    namespace: Input[str],
    opts: ResourceOptions,
    *,
    outside: bool,
) -> list[NetworkPolicy]:
    """Lets the named clients, and no others, reach one more port of a service. The number is part of the policies'
    names, as above. `outside`: also clients from outside the namespace."""
    way = f"services-to-{service.name}-{port.name}-{port.port}"
    of = selector(service.name, SERVICE)
    allowed: list[NetworkPolicyPortArgsDict] = [{"port": port.port, "protocol": port.protocol}]
    callers: LabelSelectorArgsDict = {
        "match_labels": {"app.kubernetes.io/component": SERVICE},
        "match_expressions": [
            {"key": "app.kubernetes.io/name", "operator": "In", "values": sorted(port.from_services)}
        ],
    }
    sources = peers(port.from_outside) if port.from_outside and outside else []
    specs: dict[str, NetworkPolicySpecArgsDict] = {}
    if port.from_services:
        sources.append({"pod_selector": callers})
        specs[f"allow-{way}"] = {
            "pod_selector": callers,
            "policy_types": ["Egress"],
            "egress": [{"to": [{"pod_selector": {"match_labels": of}}], "ports": allowed}],
        }
    if sources:
        specs[f"allow-into-{service.name}-{port.name}-{port.port}"] = {
            "pod_selector": {"match_labels": of},
            "policy_types": ["Ingress"],
            "ingress": [{"from_": sources, "ports": allowed}],
        }
    kind = labels(service.name, "application")
    return [
        NetworkPolicy(name, metadata=metadata(name, namespace, kind), spec=spec, opts=opts)
        for name, spec in specs.items()
    ]


def _register_ways(
    names: tuple[str, str],
    clients: LabelSelectorArgsDict,
    servers: LabelSelectorArgsDict,
    ports: Sequence[int],
    namespace: Input[str],
    of: str,
    opts: ResourceOptions,
    *,
    named: str | None = None,
    from_outside: Sequence[NetworkPolicyPeerArgsDict] = (),
) -> list[NetworkPolicy]:
    """Egress of the clients and ingress of the servers. `named`, `of`: name and component in the labels; by default
    each policy's own name."""
    allowed: list[NetworkPolicyPortArgsDict] = [{"port": port, "protocol": "TCP"} for port in ports]
    specs: list[NetworkPolicySpecArgsDict] = [
        {
            "pod_selector": clients,
            "policy_types": ["Egress"],
            "egress": [{"to": [{"pod_selector": servers}], "ports": allowed}],
        },
        {
            "pod_selector": servers,
            "policy_types": ["Ingress"],
            "ingress": [{"from_": [*from_outside, {"pod_selector": clients}], "ports": allowed}],
        },
    ]
    return [
        NetworkPolicy(name, metadata=metadata(name, namespace, labels(named or name, of)), spec=spec, opts=opts)
        for name, spec in zip(names, specs, strict=True)
    ]


def select_clients() -> LabelSelectorArgsDict:
    """Selects the services and the Jobs: everything that runs the application's image."""
    return select_parts(SERVICE, JOB)


def select_parts(*components: str) -> LabelSelectorArgsDict:
    """Selects the pods of these parts."""
    key = "app.kubernetes.io/component"
    return {"match_expressions": [{"key": key, "operator": "In", "values": list(components)}]}
