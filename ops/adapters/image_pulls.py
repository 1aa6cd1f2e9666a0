"""Which nodes have an image, and whether the others can pull it: by the kubelet's own word."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ops.adapters.cluster import Cluster
from ops.causes.text import Masker
from ops.errors import NotMeasured

MOST_NODES = 20
"""Nodes that are tried at a time: each costs a pod of the namespace's quota."""
_LABEL = "runbook/check"
_NOT_PULLED = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "RegistryUnavailable", "ErrImageNeverPull"}
_BEFORE_PULL = {"ContainerCreating", "PodInitializing", ""}
_AMOUNTS = {"cpu": "1m", "memory": "16Mi", "ephemeral-storage": "16Mi"}


def find_present(nodes: Sequence[Mapping[str, Any]], reference: str) -> list[str]:
    """Nodes whose kubelet lists an image with this digest."""
    digest = reference.rsplit("@", 1)[-1]
    return [
        node["metadata"]["name"]
        for node in nodes
        if any(
            name.endswith(f"@{digest}")
            for image in node.get("status", {}).get("images") or ()
            for name in image.get("names") or ()
        )
    ]


def try_pulls(
    cluster: Cluster, reference: str, nodes: Sequence[str], pull_secrets: Sequence[str], seconds: int
) -> tuple[list[str], dict[str, str]]:
    """Start a pod of the image on each node, for at most so long; (nodes that pulled it, node → why not).

    Its command is `true`: whether the image has that program does not matter, only that a container was made of it. The
    pods are deleted at the end, and by their deadline stop if this is killed before.
    """
    path = f"/api/v1/namespaces/{cluster.namespace}/pods"
    check = secrets.token_hex(4)
    pods = {f"pull-{check}-{place}": node for place, node in enumerate(nodes)}
    found: dict[str, str | None] = {}
    try:
        with cluster.http() as http:
            for name, node in pods.items():
                answer = http.post(path, json=_make_pod(name, node, check, reference, pull_secrets, seconds))
                if answer.status_code in (401, 403):
                    raise NotMeasured(f"no pod could be made in {cluster.namespace}: {answer.json().get('message')}")
                if answer.is_error:
                    found[node] = f"the API server answered {answer.status_code}: {answer.text[:200]}"
        changes = cluster.watch_changes(path, seconds, labelSelector=f"{_LABEL}={check}")
        while len(found) < len(nodes) and (change := next(changes, None)):
            node = pods.get(change[1].get("metadata", {}).get("name"))
            if node and node not in found and (verdict := judge_pod(change[1])) is not None:
                found[node] = verdict or None
    finally:
        with cluster.http() as http:
            for name in pods:
                http.delete(f"{path}/{name}", params={"gracePeriodSeconds": "0"})
    late = {node: f"no answer of its kubelet within {seconds} s" for node in nodes if node not in found}
    return [node for node, why in found.items() if why is None], {
        **{node: why for node, why in found.items() if why},
        **late,
    }


def judge_pod(pod: Mapping[str, Any]) -> str | None:
    """Why the image was not pulled; an empty text when it was; None while that is open."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        waiting = state.get("waiting") or {}
        reason = waiting.get("reason") or ""
        if reason in _NOT_PULLED:
            return Masker().line(f"{reason}: {waiting.get('message') or 'no message'}")
        if container.get("imageID") or "running" in state or "terminated" in state or reason not in _BEFORE_PULL:
            return ""
    if status.get("phase") == "Failed":
        return Masker().line(f"{status.get('reason') or 'Failed'}: {status.get('message') or 'no message'}")
    return None


def _make_pod(
    name: str, node: str, check: str, reference: str, pull_secrets: Sequence[str], seconds: int
) -> dict[str, Any]:
    container = {
        "name": "pull",
        "image": reference,
        "imagePullPolicy": "Always",
        "command": ["true"],
        "resources": {"requests": _AMOUNTS, "limits": _AMOUNTS | {"cpu": "100m"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {_LABEL: check}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": secret} for secret in pull_secrets],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
