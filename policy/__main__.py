"""`pulumi preview --policy-pack policy`: a preview or an update with a pod that breaks a rule is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from rules import OF_PODS, Object, check_config_map, find_pod


def _of_pods(name: str, description: str, check: Callable[[Object], Iterator[str]]) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        pod = find_pod(args.resource_type, args.props)
        for problem in check(pod) if pod is not None else ():
            report(problem)

    return ResourceValidationPolicy(name=name, description=description, validate=validate)


def _config_maps(args: ResourceValidationArgs, report: ReportViolation) -> None:
    for problem in check_config_map(args.resource_type, args.props):
        report(problem)


PolicyPack(
    name="runbook",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        *(_of_pods(name, description, check) for name, (description, check) in OF_PODS.items()),
        ResourceValidationPolicy(
            name="no-secret-in-a-config-map",
            description="No key of a ConfigMap is a secret.",
            validate=_config_maps,
        ),
    ],
)
