"""The namespace, its quota and limits, Pod Security and the default network policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceHookBinding, ResourceOptions
from pulumi_kubernetes.core.v1 import LimitRange, Namespace, ResourceQuota
from pulumi_kubernetes.networking.v1 import (
    NetworkPolicy,
    NetworkPolicyPortArgsDict,
)

from components.base.names import labels, metadata
from components.base.network_policies import peers, register_egress_policy
from settings import Egress, Guards, NetworkPeer


@dataclass(frozen=True, kw_only=True)
class FoundationArgs:
    """What the namespace is called and what it allows."""

    namespace: Input[str]
    """Name of the namespace."""
    guards: Guards
    """Quota, and whether data is protected from deletion."""
    dns: NetworkPeer
    """The cluster's DNS, which every pod may query."""
    egress: Sequence[Egress]
    """What services and Jobs may call outside the cluster."""
    hooks: ResourceHookBinding
    """Called before the namespace is created."""


class Foundation(pulumi.ComponentResource):
    """A namespace with Pod Security `restricted`, a quota, default limits and closed networking."""

    namespace: pulumi.Output[str]
    """Name of the namespace; resources that use it wait for the namespace."""

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
                    # Warnings and the audit log name in advance what a newer version would refuse.
                    "pod-security.kubernetes.io/enforce-version": args.guards.pod_security_version,
                },
            ),
            # Deleting the namespace deletes the volumes: `protect` requires an explicit unprotect.
            opts=ResourceOptions(
                parent=self,
                protect=args.guards.protect_data,
                retain_on_delete=args.guards.adopt_namespace,
                hooks=args.hooks,
            ),
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
            # For pods without requests and limits of their own, such as a debugging pod.
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
                "egress": [{"to": peers(args.dns), "ports": ports}],
            },
            opts=ResourceOptions(parent=self),
        )
        register_egress_policy(self, "allow-outside", self.namespace, args.egress)
