"""Volumes for files of the services, such as uploads; they outlive every release."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import PersistentVolumeClaim

from components.base.claims import claim_spec
from components.base.names import SKIP_AWAIT, labels, metadata
from settings import DataVolume


def register_volumes(
    parent: pulumi.ComponentResource,
    volumes: Mapping[str, DataVolume],
    namespace: Input[str],
    opts: ResourceOptions,
    *,
    protect: bool,
) -> None:
    """A claim for each. Its size may grow in place."""
    for name, wanted in volumes.items():
        PersistentVolumeClaim(
            f"{name}-volume",
            # The storage class may bind it only when a pod mounts it.
            metadata=metadata(name, namespace, labels(name, "volume"), SKIP_AWAIT),
            spec=claim_spec(wanted.size, wanted.storage_class, wanted.access_mode),
            opts=ResourceOptions.merge(opts, ResourceOptions(parent=parent, protect=protect)),
        )
