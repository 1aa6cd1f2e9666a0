"""The namespace, its limits, and the network policies that deny by default."""

from __future__ import annotations

import pulumi

from components.foundation import Foundation, FoundationArgs
from program.inputs import Inputs


def register_foundation(inputs: Inputs) -> Foundation:
    settings = inputs.settings
    foundation = Foundation(
        "foundation",
        FoundationArgs(
            namespace=settings.namespace,
            guards=settings.guards,
            dns=settings.network.dns,
            egress=settings.network.egress,
        ),
    )
    pulumi.export("namespace", foundation.namespace)
    return foundation
