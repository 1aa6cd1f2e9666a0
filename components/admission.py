"""Admission policies of the stack's namespace: what the API server refuses of every tool, not only of Pulumi.

The most important rules of the policy pack (policy/rules.py). Pod Security, which the namespace enforces, has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.admissionregistration.v1 import ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding

from components.base.names import labels, metadata
from settings.application import LOOKS_SECRET

_DIGEST = "@sha256:[0-9a-f]{64}$"
_REFERENCE = "(_NAME|_FILE|_PATH|_DIR)$"
_PASSWORD_IN_URL = r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@"  # noqa: S105 (a pattern)

_IMAGE = f"c.image.matches(r'{_DIGEST}')"
_NON_ROOT = (
    "has(c.securityContext) && has(c.securityContext.runAsNonRoot) ? c.securityContext.runAsNonRoot : "
    "has(object.spec.securityContext) && has(object.spec.securityContext.runAsNonRoot) && "
    "object.spec.securityContext.runAsNonRoot"
)
_PLAIN = (
    "has(e.value) && e.value != '' && "
    f"(e.value.matches(r'{_PASSWORD_IN_URL}') || "
    f"e.name.matches(r'(?i){LOOKS_SECRET}') && !e.name.matches(r'(?i){_REFERENCE}') && "
    r"!e.value.matches(r'^([0-9]+$|/)'))"
)
_NO_SECRET = f"!has(c.env) || !c.env.exists(e, {_PLAIN})"
RULES = {
    "image": (_IMAGE, "has an image that is not named by digest: write NAME@sha256:…"),
    "non-root": (_NON_ROOT, "may run as root: set securityContext.runAsNonRoot"),
    "secret": (_NO_SECRET, "has a variable whose plain value looks like a secret: take it from a Secret"),
}
"""Rule → what holds for each container `c`, and what is wrong otherwise."""


@dataclass(frozen=True, kw_only=True)
class AdmissionArgs:
    """The namespace, and what happens to a pod that breaks a rule."""

    namespace: Input[str]
    """The only namespace whose pods are judged."""
    deny: bool
    """Refuse the pod. Otherwise the client that creates it is warned, and the audit log has it."""


class Admission(pulumi.ComponentResource):
    """A policy and its binding, both objects of the cluster, named by the namespace.

    Fails closed: when the API server cannot evaluate a rule, the pod is refused, in this namespace and in no other.
    """

    def __init__(self, name: str, args: AdmissionArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:foundation:Admission", name, None, opts)
        inside = ResourceOptions(parent=self)
        named = pulumi.Output.from_input(args.namespace).apply(lambda namespace: f"runbook-{namespace}-pods")
        policy = ValidatingAdmissionPolicy(
            "policy",
            metadata=metadata(named, None, labels("pods", "admission")),
            spec={
                "failure_policy": "Fail",
                "match_constraints": {
                    # Also here: another binding must not spread it.
                    "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": args.namespace}},
                    "resource_rules": [
                        {
                            "api_groups": [""],
                            "api_versions": ["v1"],
                            "resources": ["pods"],
                            "operations": ["CREATE", "UPDATE"],
                        }
                    ],
                },
                "match_conditions": [
                    # Labels and finalizers of pods that are older than the policy can still change.
                    {
                        "name": "spec-is-new",
                        "expression": "oldObject == null || oldObject.spec != object.spec",
                    }
                ],
                "variables": [
                    {
                        "name": "containers",
                        "expression": "object.spec.containers + "
                        "(has(object.spec.initContainers) ? object.spec.initContainers : [])",
                    }
                ],
                "validations": [
                    {
                        "expression": f"variables.containers.all(c, {rule})",
                        "message_expression": f"'container ' + variables.containers.filter(c, !({rule}))[0].name + "
                        f"' {wrong}'",
                        "message": f"a container {wrong}",
                        "reason": "Invalid",
                    }
                    for rule, wrong in RULES.values()
                ],
            },
            opts=inside,
        )
        ValidatingAdmissionPolicyBinding(
            "binding",
            metadata=metadata(named, None, labels("pods", "admission")),
            spec={
                "policy_name": named,
                "validation_actions": ["Deny"] if args.deny else ["Warn", "Audit"],
                "match_resources": {
                    "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": args.namespace}}
                },
            },
            opts=ResourceOptions.merge(inside, ResourceOptions(depends_on=[policy])),
        )
        self.register_outputs({})
