"""Protection from `pulumi destroy`, which otherwise deletes everything that a protected resource does not depend on
before it is refused (with `--skip-preview`; a preview is refused as a whole)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import Input, Resource, ResourceOptions
from pulumi_kubernetes.core.v1 import ConfigMap

from components.base.names import labels, metadata


@dataclass(frozen=True, kw_only=True)
class ProtectionArgs:
    """What is protected, and whether."""

    namespace: Input[str]
    """Namespace of the stack."""
    everything: Sequence[Resource]
    """Every other resource of the stack."""
    protect: bool
    """Whether the stack must not be destroyed."""


class Protection(pulumi.ComponentResource):
    """A resource that depends on all others, so that it is the first one to be deleted, and the only one at that
    moment: where it is protected, nothing is deleted. It exists without protection too, which is taken off first."""

    def __init__(self, name: str, args: ProtectionArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("runbook:foundation:Protection", name, None, opts)
        ConfigMap(
            "protection",
            metadata=metadata("protection", args.namespace, labels("protection", "foundation")),
            data={"guards.protectData": str(args.protect).lower()},
            opts=ResourceOptions(parent=self, protect=args.protect, depends_on=list(args.everything)),
        )
        self.register_outputs({})
