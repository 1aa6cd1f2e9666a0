"""The end of secrets whose overlap is over, after the checks have passed with their successors."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Resource, ResourceOptions

from components.foundation import Foundation
from components.rotation import Retirement, RetirementArgs
from program.data import Data
from program.inputs import Inputs


def register_retirement(inputs: Inputs, foundation: Foundation, data: Data, after: Sequence[Resource]) -> None:
    Retirement(
        "retirement",
        RetirementArgs(
            namespace=foundation.namespace,
            image=inputs.settings.image,
            rotations=inputs.rotations,
            account=data.rotation.account,
        ),
        ResourceOptions(depends_on=after),
    )
