"""Names and labels. A name that ends in a hash of what it names makes the object immutable in fact:
other content is another object, and the old one stays until nothing needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pulumi import Input
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from settings.lockdown import GATE

PART_OF = "runbook"

SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}
"""The provider does not wait until the object is ready.

On Services and Ingresses: their pods are awaited already, and the release's checks go through them. The wait itself
proves no more and costs 10 s after the last change of a Service's endpoints, and an Ingress whose controller publishes
no address never passes it.
"""
_PATCH_FORCE = {"pulumi.com/patchForce": "true"}
"""Fields that were changed by hand or by another tool are taken back; otherwise the API server refuses the update."""


def content_hash(*parts: Any) -> str:
    """Ten hex digits that identify this content."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def logical(variable: str) -> str:
    """A variable's name as an object name: lower case, with hyphens."""
    return variable.lower().replace("_", "-")


def labels(name: str, component: str) -> dict[str, str]:
    """Labels of everything: what it is, and what part it plays (network policies select by the part)."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PART_OF,
        "app.kubernetes.io/managed-by": "pulumi",
    }


def metadata(
    name: Input[str],
    namespace: Input[str] | None,
    kind: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> ObjectMetaArgsDict:
    """Name, namespace (None: the object belongs to the cluster) and labels of an object."""
    made: ObjectMetaArgsDict = {
        "name": name,
        "labels": dict(kind),
        "annotations": {**_PATCH_FORCE, **(annotations or {})},
    }
    if namespace is not None:
        made["namespace"] = namespace
    return made


def selector(name: str, component: str) -> dict[str, str]:
    """The part of the labels that never changes."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}


SERVICE = "service"
SERVICE_PORT = "http"
"""Name of a service's port, in its pods and in its Service."""
JOB = "job"
POSTGRES = "postgres"
REDIS = "redis"
BACKUP = "backup"
RESTORE_TEST = "restore-test"
BACKUP_EXPORTER = "backup-exporter"
ROTATION = "rotation"
LOCKDOWN = GATE
