"""The volume of a StatefulSet with one pod: its claim, and how the claim grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import StatefulSet
from pulumi_kubernetes.core.v1 import PersistentVolumeClaimPatch, PersistentVolumeClaimSpecArgsDict
from pulumi_kubernetes.meta.v1 import ObjectMetaPatchArgsDict

from components.base.names import SKIP_AWAIT, metadata

DATA = "data"
"""Name of the volume."""
SIZE = "spec.volumeClaimTemplates[0].spec.resources.requests.storage"
"""What the StatefulSet ignores: Kubernetes never changes it, and the engine would replace the StatefulSet."""


def claim_spec(
    storage: str, storage_class: str | None, access_mode: str = "ReadWriteOnce"
) -> PersistentVolumeClaimSpecArgsDict:
    """A volume of this size; without a class, of the cluster's default."""
    spec: PersistentVolumeClaimSpecArgsDict = {
        "access_modes": [access_mode],
        "resources": {"requests": {"storage": storage}},
    }
    if storage_class:
        spec["storage_class_name"] = storage_class
    return spec


def register_growth(
    server: StatefulSet,
    name: str,
    storage: str,
    *,
    namespace: Input[str],
    kind: Mapping[str, str],
    opts: ResourceOptions,
) -> None:
    """The claim that the StatefulSet made gets the size that the settings have now. A storage class that expands
    volumes does the rest without a restart; the API server refuses another one, and a smaller size."""
    PersistentVolumeClaimPatch(
        f"{name}-claim",
        metadata=cast(ObjectMetaPatchArgsDict, metadata(f"{DATA}-{name}-0", namespace, kind, SKIP_AWAIT)),
        spec={"resources": {"requests": {"storage": storage}}},
        # The size is a required field, which a patch cannot take back: the claim goes with the namespace.
        opts=ResourceOptions.merge(opts, ResourceOptions(depends_on=[server], retain_on_delete=True)),
    )
