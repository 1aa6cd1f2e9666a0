"""Neighbours that the network policies name."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from settings.base import Cidr, DnsLabel, Finding, PortNumber, Settings, refuse


class Peer(Settings):
    """Something else in the cluster that the network policies name."""

    namespace: Annotated[DnsLabel, Field(examples=["traefik"])]
    """Its namespace."""
    pod_labels: Annotated[dict[str, str], Field(min_length=1, examples=[{"app.kubernetes.io/name": "traefik"}])]
    """Labels of its pods."""
    ports: tuple[PortNumber, ...] = ()
    """Ports of its pods that may be called; empty where only it calls us."""


class NetworkPeer(Settings):
    """A neighbour that is pods of the cluster, addresses, or both (a DNS cache on each node, a load balancer that sends
    requests to pods by address)."""

    namespace: Annotated[DnsLabel | None, Field(examples=["traefik"])] = None
    """Namespace of its pods."""
    pod_labels: Annotated[dict[str, str], Field(examples=[{"app.kubernetes.io/name": "traefik"}])] = {}
    """Labels of its pods."""
    cidrs: Annotated[tuple[Cidr, ...], Field(examples=[["169.254.20.10/32"]])] = ()
    """Its addresses, where it is not pods or answers on an address of the node."""
    ports: tuple[PortNumber, ...] = ()
    """Its ports that may be called; empty where only it calls us."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        found: list[Finding] = []
        if self.namespace and not self.pod_labels:
            found.append(Finding(("podLabels",), "name the labels of its pods in that namespace", {}))
        if self.pod_labels and not self.namespace:
            found.append(Finding(("namespace",), "name the namespace of the pods with these labels", None))
        if not (self.namespace or self.cidrs):
            found.append(Finding((), "give namespace and podLabels of its pods, or cidrs, or both", {}))
        refuse(found)
        return self
