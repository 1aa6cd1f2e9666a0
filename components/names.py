"""Names and labels. A name that ends in a hash of what it names makes the object immutable in fact:
other content is another object, and the old one stays until nothing needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pulumi import Input
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

PART_OF = "runbook"


def content_hash(*parts: Any) -> str:
    """Ten hex digits that stand for exactly this content."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def logical(variable: str) -> str:
    """The name of a variable as objects are named."""
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
    name: str, namespace: Input[str], kind: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> ObjectMetaArgsDict:
    """Name, place and labels of an object."""
    made: ObjectMetaArgsDict = {"name": name, "namespace": namespace, "labels": dict(kind)}
    if annotations:
        made["annotations"] = dict(annotations)
    return made


def selector(name: str, component: str) -> dict[str, str]:
    """The part of the labels that never changes."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}


SERVICE = "service"
JOB = "job"
POSTGRES = "postgres"
REDIS = "redis"
BACKUP = "backup"
RESTORE_TEST = "restore-test"
BACKUP_EXPORTER = "backup-exporter"
ROTATION = "rotation"
LOCKDOWN = "lockdown"
