"""What an identity may do in its own namespace: a Role and its binding."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict, Role, RoleBinding

from components.base.names import labels, metadata


def grant_role(
    name: str,
    part: str,
    account: ServiceAccount,
    namespace: Input[str],
    rules: Sequence[PolicyRuleArgsDict],
    opts: ResourceOptions,
) -> RoleBinding:
    """`account` gets a Role of its name. What needs the rights depends on the binding."""
    role = Role(f"{name}-role", metadata=metadata(name, namespace, labels(name, part)), rules=list(rules), opts=opts)
    return RoleBinding(
        f"{name}-binding",
        metadata=metadata(name, namespace, labels(name, part)),
        role_ref={
            "api_group": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": role.metadata.apply(lambda meta: meta.name or ""),
        },
        subjects=[
            {
                "kind": "ServiceAccount",
                "name": account.metadata.apply(lambda meta: meta.name or ""),
                "namespace": namespace,
            }
        ],
        opts=opts,
    )
