"""What an identity may do: a Role in its own namespace, or a ClusterRole, and the binding."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict
from pulumi_kubernetes.rbac.v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRuleArgsDict,
    Role,
    RoleBinding,
    RoleRefArgsDict,
    SubjectArgsDict,
)

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
    made = metadata(name, namespace, labels(name, part))
    role = Role(f"{name}-role", metadata=made, rules=list(rules), opts=opts)
    return RoleBinding(
        f"{name}-binding",
        metadata=made,
        role_ref=_reference(role),
        subjects=[_subject(account, namespace)],
        opts=opts,
    )


def grant_cluster_role(
    name: str,
    made: ObjectMetaArgsDict,
    account: ServiceAccount,
    namespace: Input[str],
    rules: Sequence[PolicyRuleArgsDict],
    opts: ResourceOptions,
) -> ClusterRoleBinding:
    """`account` gets a ClusterRole, for objects that belong to no namespace. `made`: both objects' metadata; their name
    has the namespace in it, because every stack of the cluster has its own."""
    role = ClusterRole(name, metadata=made, rules=list(rules), opts=opts)
    return ClusterRoleBinding(
        f"{name}-binding",
        metadata=made,
        role_ref=_reference(role),
        subjects=[_subject(account, namespace)],
        opts=opts,
    )


def _reference(role: Role | ClusterRole) -> RoleRefArgsDict:
    return {
        "api_group": "rbac.authorization.k8s.io",
        "kind": type(role).__name__,
        "name": role.metadata.apply(lambda meta: meta.name or ""),
    }


def _subject(account: ServiceAccount, namespace: Input[str]) -> SubjectArgsDict:
    name = account.metadata.apply(lambda meta: meta.name or "")
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
