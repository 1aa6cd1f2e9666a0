"""What every pod has in common: no privileges, and limits on every resource."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PodTemplateSpecArgsDict,
    ProbeArgsDict,
    ResourceRequirementsArgsDict,
    ServiceAccount,
    VolumeArgsDict,
    VolumeMountArgsDict,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgsDict, ObjectMetaArgsDict
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components.base.names import labels, metadata
from components.base.shapes import beside_claim, placement
from components.base.shapes import volumes as volumes_of
from settings import PodShape, Probe, Resources
from settings.names import keep_dollars

APPLICATION_UID = 10001
"""User of the application's image."""

OLD_REVISIONS = 0
"""Old ReplicaSets that a Deployment keeps once its rollout is complete. They would refer to ConfigMaps and Secrets that
are named by their content and deleted at the end of the update: pods of `kubectl rollout undo` could not start. Until
then the old ReplicaSet and what it refers to are there, and a rollback makes both again."""
SECRETS_IN_ENVIRONMENT = {"checkov.io/skip1": "CKV_K8S_35=The application reads its secrets from its environment"}
"""On what runs the application: a linter's default that does not fit, with the reason."""
IMAGE_OWN_USER = {
    "checkov.io/skip1": "CKV_K8S_40=The data services start only as the user their image knows",
    "kube-score/ignore": "container-security-context-user-group-id",
}
"""The same on the data services."""
_BY_DIGEST = {"kube-score/ignore": "container-image-pull-policy"}
"""On every pod. The linter wants `Always`: it protects tags that move, and makes each start depend on the registry."""

_SCRATCH: VolumeMountArgsDict = {"name": "tmp", "mount_path": "/tmp"}  # noqa: S108 (a mount point in the pod)

_OWN_SCRATCH = "tmp-of-"


def resources(amounts: Resources) -> ResourceRequirementsArgsDict:
    def side(of: Any) -> dict[str, str]:
        return {"cpu": of.cpu, "memory": of.memory, "ephemeral-storage": of.ephemeral_storage}

    return {"requests": side(amounts.requests), "limits": side(amounts.limits)}


def container(
    name: str,
    *,
    image: Input[str],
    amounts: Resources,
    command: Sequence[str] | None = None,
    mounts: Sequence[VolumeMountArgsDict] = (),
    **more: Any,
) -> ContainerArgsDict:
    """A container without privileges, with a read-only root and /tmp to write to."""
    made = {
        "name": name,
        "image": image,
        # A digest names one content: a pod of an image that its node has, as in a rollback, needs no registry.
        "image_pull_policy": "IfNotPresent",
        "resources": resources(amounts),
        "security_context": {
            "allow_privilege_escalation": False,
            "privileged": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volume_mounts": [_SCRATCH, *mounts],
        "termination_message_policy": "FallbackToLogsOnError",
        **more,
    }
    if command is not None:
        made["command"] = [keep_dollars(word) for word in command]
    return cast(ContainerArgsDict, made)


def template(
    name: str,
    component: str,
    *,
    service_account: Input[str],
    uid: int,
    containers: Sequence[ContainerArgsDict],
    volumes: Sequence[VolumeArgsDict] = (),
    annotations: Mapping[str, str] | None = None,
    shape: PodShape | None = None,
    **more: Any,
) -> PodTemplateSpecArgsDict:
    """A pod as Pod Security `restricted` wants it, without a token for the Kubernetes API.

    `shape`: what the settings change for pods that run the release.
    """
    shape = shape or PodShape()
    user = shape.uid or uid
    group = shape.gid or user
    spec = {
        "service_account_name": service_account,
        "automount_service_account_token": False,
        "enable_service_links": False,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": user,
            "run_as_group": group,
            "fs_group": shape.fs_group or group,
            "fs_group_change_policy": "OnRootMismatch",
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": [{"name": "tmp", "empty_dir": {}}, *_own_scratches(more), *volumes_of(shape), *volumes],
        **placement(shape),
        **more,
    }
    notes = {**_BY_DIGEST, **shape.annotations, **(annotations or {})}
    meta = {"labels": {**shape.labels, **labels(name, component)}, "annotations": notes}
    return cast(PodTemplateSpecArgsDict, {"metadata": meta, "spec": spec})


def with_own_scratch(made: ContainerArgsDict) -> ContainerArgsDict:
    """The container with a /tmp that no other of its pod has."""
    _, *others = cast(Sequence[VolumeMountArgsDict], made.get("volume_mounts") or ())
    own: VolumeMountArgsDict = {**_SCRATCH, "name": f"{_OWN_SCRATCH}{made['name']}"}
    return {**made, "volume_mounts": [own, *others]}


def _own_scratches(more: Mapping[str, Any]) -> list[VolumeArgsDict]:
    """The volumes of init containers that have a /tmp of their own."""
    mounted = [mount["name"] for one in more.get("init_containers", ()) for mount in one["volume_mounts"]]
    return [{"name": name, "empty_dir": {}} for name in mounted if name.startswith(_OWN_SCRATCH)]


def memory_volume(name: str, most_bytes: int) -> VolumeArgsDict:
    """A folder in memory, which counts towards the container's limit."""
    return {"name": name, "empty_dir": {"medium": "Memory", "size_limit": str(most_bytes)}}


def spread(selected: LabelSelectorArgsDict, shape: PodShape | None = None) -> dict[str, Any]:
    """Pods of one Deployment over zones and nodes, as far as there are any, unless the settings want otherwise."""
    required = shape is not None and shape.spread == "required"
    return {
        "topology_spread_constraints": [
            {
                "max_skew": 1,
                "topology_key": key,
                "when_unsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
                "label_selector": selected,
                "match_label_keys": ["pod-template-hash"],
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
        "affinity": (shape and (beside_claim(shape) or shape.affinity))
        or {
            "pod_anti_affinity": {
                "preferred_during_scheduling_ignored_during_execution": [
                    {
                        "weight": 100,
                        "pod_affinity_term": {"topology_key": "kubernetes.io/hostname", "label_selector": selected},
                    }
                ]
            }
        },
    }


def register_budget(
    name: str, named: ObjectMetaArgsDict, pods: LabelSelectorArgsDict, opts: ResourceOptions
) -> PodDisruptionBudget:
    """A node drain takes one pod at a time. One that is not ready must not block it."""
    return PodDisruptionBudget(
        name,
        metadata=named,
        spec={"selector": pods, "max_unavailable": 1, "unhealthy_pod_eviction_policy": "AlwaysAllow"},
        opts=opts,
    )


def register_service_account(
    name: str,
    component: str,
    namespace: Input[str],
    opts: ResourceOptions,
    annotations: Mapping[str, str] | None = None,
) -> ServiceAccount:
    """A ServiceAccount without RBAC."""
    return ServiceAccount(
        f"{name}-account",
        metadata=metadata(name, namespace, labels(name, component), annotations),
        automount_service_account_token=False,
        opts=opts,
    )


def probe(asked: Probe, port: int | None, host: str | None = None) -> ProbeArgsDict:
    """A settings probe as kubelet takes it; `host`: its Host header, else the pod's address."""
    made: ProbeArgsDict = {
        "period_seconds": asked.period_seconds,
        "timeout_seconds": asked.timeout_seconds,
        "failure_threshold": asked.failure_threshold,
    }
    if asked.path is not None and port is not None:
        made["http_get"] = {"path": asked.path, "port": port}
        if host:
            made["http_get"]["http_headers"] = [{"name": "Host", "value": host}]
    elif asked.tcp and port is not None:
        made["tcp_socket"] = {"port": port}
    elif asked.grpc is not None and port is not None:
        made["grpc"] = {"port": port, "service": asked.grpc}
    else:
        made["exec_"] = {"command": shlex.split(asked.command or "")}
    return made
