"""Protection of the whole stack: the last thing that is registered, because it depends on all others."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import CustomResource, Resource, ResourceTransformationArgs
from pulumi.runtime import register_stack_transformation

from components.foundation import Foundation
from components.protection import Protection, ProtectionArgs
from program.inputs import Inputs


def record_resources() -> Sequence[Resource]:
    """What is registered from now on, in order."""
    made: list[Resource] = []

    def record(given: ResourceTransformationArgs) -> None:
        if isinstance(given.resource, CustomResource):
            made.append(given.resource)

    register_stack_transformation(record)
    return made


def register_protection(inputs: Inputs, foundation: Foundation, everything: Sequence[Resource]) -> None:
    args = ProtectionArgs(
        namespace=foundation.namespace, everything=tuple(everything), protect=inputs.settings.guards.protect_data
    )
    Protection("protection", args)
