"""What a service's pods have besides the program's defaults, as Kubernetes writes it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pulumi_kubernetes.core.v1 import TolerationArgsDict, VolumeArgsDict, VolumeMountArgsDict

from settings import PodShape
from settings.sqlite import BESIDE

_LOW = 10_000


def mounts(shape: PodShape) -> list[VolumeMountArgsDict]:
    """What each container of the release mounts besides /tmp."""
    return [
        *({"name": _writable(place), "mount_path": path} for place, path in enumerate(shape.writable_paths)),
        *(
            {"name": _volume(place), "mount_path": one.path, "read_only": one.read_only}
            for place, one in enumerate(shape.volumes)
        ),
    ]


def shared_mounts(shape: PodShape, paths: Collection[str]) -> list[VolumeMountArgsDict]:
    """Those of these mounts that lie at these paths."""
    return [mount for mount in mounts(shape) if mount["mount_path"] in paths]


def volumes(shape: PodShape) -> list[VolumeArgsDict]:
    """The volumes of these mounts."""
    return [
        *({"name": _writable(place), "empty_dir": {}} for place in range(len(shape.writable_paths))),
        *(
            {"name": _volume(place), "persistent_volume_claim": {"claim_name": one.name, "read_only": one.read_only}}
            for place, one in enumerate(shape.volumes)
        ),
    ]


def temporary_volumes(shape: PodShape) -> list[VolumeArgsDict]:
    """Empty volumes for the same mounts: a restore test must not touch production's files."""
    return [{"name": mount["name"], "empty_dir": {}} for mount in mounts(shape)]


def placement(shape: PodShape) -> dict[str, Any]:
    """On which nodes the pods run, and before which others."""
    found: dict[str, Any] = {}
    if shape.node_selector:
        found["node_selector"] = dict(shape.node_selector)
    if shape.tolerations:
        found["tolerations"] = [_toleration(one.to_config()) for one in shape.tolerations]
    if shape.priority_class:
        found["priority_class_name"] = shape.priority_class
    if beside := beside_claim(shape):
        found["affinity"] = beside
    return found


def beside_claim(shape: PodShape) -> dict[str, Any] | None:
    """On the node of the other pods that have the same volume, if there are any: the first may run on each node."""
    if BESIDE not in shape.labels:
        return None
    others = {"match_labels": {BESIDE: shape.labels[BESIDE]}}
    term = {"topology_key": "kubernetes.io/hostname", "label_selector": others}
    return {"pod_affinity": {"required_during_scheduling_ignored_during_execution": [term]}}


def waivers(shape: PodShape) -> dict[str, str]:
    """On what runs as a user with a low number, which may be one of the node: linters want 10000 or more."""
    if all(number is None or number >= _LOW for number in (shape.uid, shape.gid)):
        return {}
    return {
        "checkov.io/skip2": "CKV_K8S_40=The image has a user of its own",
        "kube-score/ignore": "container-security-context-user-group-id",
    }


def _toleration(written: dict[str, Any]) -> TolerationArgsDict:
    seconds = written.pop("tolerationSeconds", None)
    return {**written, **({} if seconds is None else {"toleration_seconds": seconds})}  # pyright: ignore[reportReturnType]


def _writable(place: int) -> str:
    return f"writable-{place}"


def _volume(place: int) -> str:
    return f"volume-{place}"
