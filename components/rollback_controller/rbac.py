"""What the rollback controller may do: what an update of its own stack needs, in its namespace and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict, RoleBinding

from components.base.rbac import grant_role
from settings.names import COMMAND_LOCK

_MANAGE = ["get", "list", "watch", "create", "patch", "delete"]
_READ = ["get", "list", "watch"]
_OPERATED = ["alertmanagerconfigs", "podmonitors", "probes", "prometheusrules", "servicemonitors"]
"""What the program makes for the Prometheus Operator."""


def grant_controller_rights(
    name: str, account: ServiceAccount, namespace: Input[str], opts: ResourceOptions, *, operated: bool = False
) -> RoleBinding:
    """The account with a Role of this namespace. There is no ClusterRole: a rollback does not change
    cluster-wide objects, and a Role covers the namespace itself.

    `operated`: the stack has objects for the Prometheus Operator.
    """
    rules = [
        # What the program creates. Pods of Jobs and ReplicaSets of Deployments are only read.
        _rule("", ["configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims"], _MANAGE),
        _rule("apps", ["deployments", "statefulsets"], _MANAGE),
        _rule("batch", ["jobs", "cronjobs"], _MANAGE),
        _rule("networking.k8s.io", ["ingresses", "networkpolicies"], _MANAGE),
        _rule("policy", ["poddisruptionbudgets"], _MANAGE),
        _rule("autoscaling", ["horizontalpodautoscalers"], _MANAGE),
        *([_rule("monitoring.coreos.com", _OPERATED, _MANAGE)] if operated else []),
        # A rollback does not change limits, the namespace or rights, its own included.
        _rule("", ["namespaces", "resourcequotas", "limitranges"], _READ),
        _rule("rbac.authorization.k8s.io", ["roles", "rolebindings"], _READ),
        # Wait for a rollout, and explain why it fails.
        _rule("", ["pods", "pods/log", "endpoints"], _READ),
        _rule("", ["events"], [*_READ, "create"]),
        _rule("apps", ["replicasets"], _READ),
        _rule("discovery.k8s.io", ["endpointslices"], _READ),
        # The database's schema level is read in a pod of the application.
        _rule("", ["pods/exec"], ["get", "create"]),
        # One controller at a time, and one command at a time.
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "list", "watch", "update"], names=[name, COMMAND_LOCK]),
    ]
    return grant_role(name, name, account, namespace, rules, opts)


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()) -> PolicyRuleArgsDict:
    rule: PolicyRuleArgsDict = {"api_groups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resource_names"] = list(names)
    return rule
