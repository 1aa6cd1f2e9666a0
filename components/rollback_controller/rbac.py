"""What the rollback controller may do: what an update of its own stack needs, in its namespace and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict, RoleBinding

from components.base.rbac import grant_role

_MANAGE = ["get", "list", "watch", "create", "patch", "delete"]
_LOOK = ["get", "list", "watch"]
_OPERATED = ["alertmanagerconfigs", "podmonitors", "probes", "prometheusrules", "servicemonitors"]
"""What the program makes for the Prometheus Operator."""


def grant_controller_rights(
    name: str, account: ServiceAccount, namespace: Input[str], opts: ResourceOptions, *, operated: bool = False
) -> RoleBinding:
    """The account with a Role of this namespace. There is no ClusterRole: what is cluster-wide in a stack is the same
    before and after a rollback, and the namespace itself is reached through its own Role.

    `operated`: the stack has objects for the Prometheus Operator.
    """
    rules = [
        # What the program makes. A Job's pods and the Deployments' ReplicaSets are only looked at.
        _rule("", ["configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims"], _MANAGE),
        _rule("apps", ["deployments", "statefulsets"], _MANAGE),
        _rule("batch", ["jobs", "cronjobs"], _MANAGE),
        _rule("networking.k8s.io", ["ingresses", "networkpolicies"], _MANAGE),
        _rule("policy", ["poddisruptionbudgets"], _MANAGE),
        _rule("autoscaling", ["horizontalpodautoscalers"], _MANAGE),
        *([_rule("monitoring.coreos.com", _OPERATED, _MANAGE)] if operated else []),
        # A rollback leaves the limits, the namespace and rights, its own among them, as they are.
        _rule("", ["namespaces", "resourcequotas", "limitranges"], _LOOK),
        _rule("rbac.authorization.k8s.io", ["roles", "rolebindings"], _LOOK),
        # Waiting for a rollout, and why it fails.
        _rule("", ["pods", "pods/log", "endpoints"], _LOOK),
        _rule("", ["events"], [*_LOOK, "create"]),
        _rule("apps", ["replicasets"], _LOOK),
        _rule("discovery.k8s.io", ["endpointslices"], _LOOK),
        # The database's schema level is asked in a pod of the application.
        _rule("", ["pods/exec"], ["get", "create"]),
        # One controller at a time.
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], names=[name]),
    ]
    return grant_role(name, name, account, namespace, rules, opts)


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()) -> PolicyRuleArgsDict:
    rule: PolicyRuleArgsDict = {"api_groups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resource_names"] = list(names)
    return rule
