"""The namespace, its limits, and the network policies that deny by default."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi import ResourceTransformationArgs, ResourceTransformationResult
from pulumi.runtime import register_stack_transformation

from components.foundation import Foundation, FoundationArgs
from program.existing_namespace import watch_creation
from program.inputs import Inputs


def register_foundation(inputs: Inputs) -> Foundation:
    settings = inputs.settings
    if settings.registry.pull_secrets:
        _add_pull_secrets(settings.registry.pull_secrets)
    foundation = Foundation(
        "foundation",
        FoundationArgs(
            namespace=settings.namespace,
            guards=settings.guards,
            dns=settings.network.dns,
            egress=settings.network.egress,
            hooks=watch_creation(
                settings.namespace,
                adopt=settings.guards.adopt_namespace,
                api=inputs.api,
            ),
        ),
    )
    if settings.guards.admission != "off":
        from components.admission import Admission, AdmissionArgs

        Admission("admission", AdmissionArgs(namespace=foundation.namespace, deny=settings.guards.admission == "deny"))
    pulumi.export("namespace", foundation.namespace)
    return foundation


def _add_pull_secrets(names: Sequence[str]) -> None:
    """Adds them to every ServiceAccount of the stack, from which pods take them: no pod is replaced."""

    def add(given: ResourceTransformationArgs) -> ResourceTransformationResult | None:
        if given.type_ != "kubernetes:core/v1:ServiceAccount":
            return None
        secrets = [{"name": name} for name in names]
        return ResourceTransformationResult({**given.props, "image_pull_secrets": secrets}, given.opts)

    register_stack_transformation(add)
