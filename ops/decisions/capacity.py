"""Whether the pods of a rollout fit: on the nodes, and into the namespace's quotas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from settings.application import Application
from settings.base import quantity
from settings.containers import Resources

Amounts = dict[str, Decimal]
"""Amounts by resource: `cpu`, `memory`, `pods`, …"""
Object = Mapping[str, Any]
_REPELLING = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class NewPod:
    """A pod that a rollout adds."""

    of: str
    requests: Amounts
    limits: Amounts


def pods_of_rollout(application: Application, running: Mapping[str, int]) -> list[NewPod]:
    """The most pods that run at a time beside those of now: the surge of every service, all pods of one that is new, or
    the rehearsal before them."""
    surge: list[NewPod] = []
    for service in application.services:
        count = running.get(service.name)
        pods = service.least_replicas if count is None else min(application.surge, count)
        surge += [_pod(service.name, service.pod_resources)] * pods
    main = application.main_service
    rehearsal = [_pod("rehearsal", main.pod_resources, application.job_resources)]
    return max(surge, rehearsal, key=lambda pods: sum(pod.requests["memory"] for pod in pods))


def _pod(name: str, *containers: Resources) -> NewPod:
    def total(side: str) -> Amounts:
        parts = [getattr(each, side) for each in containers]
        return {
            "cpu": sum((quantity(part.cpu) for part in parts), Decimal()),
            "memory": sum((quantity(part.memory) for part in parts), Decimal()),
            "ephemeral-storage": sum((quantity(part.ephemeral_storage) for part in parts), Decimal()),
        }

    return NewPod(name, total("requests"), total("limits"))


def find_unplaceable(new: Sequence[NewPod], nodes: Sequence[Object], pods: Sequence[Object]) -> list[NewPod]:
    """The new pods for which no node has room, when the largest are placed first."""
    free = {node["metadata"]["name"]: _allocatable(node) for node in nodes if accepts_pods(node)}
    for pod in pods:
        if (room := free.get(pod["spec"].get("nodeName"))) and pod["status"].get("phase") not in (
            "Succeeded",
            "Failed",
        ):
            _take(room, {**requests_of(pod), "pods": Decimal(1)})
    left: list[NewPod] = []
    for pod in sorted(new, key=lambda pod: (pod.requests["memory"], pod.requests["cpu"]), reverse=True):
        wanted = {**pod.requests, "pods": Decimal(1)}
        fitting = (room for room in free.values() if all(room.get(name, 0) >= need for name, need in wanted.items()))
        if (room := next(fitting, None)) is None:
            left.append(pod)
        else:
            _take(room, wanted)
    return left


def is_ready(node: Object) -> bool:
    return _condition(node, "Ready") == "True"


def pressures(node: Object) -> list[str]:
    """What a node runs out of."""
    kinds = ("DiskPressure", "MemoryPressure", "PIDPressure")
    return [kind for kind in kinds if _condition(node, kind) == "True"]


def accepts_pods(node: Object) -> bool:
    """Ready, not cordoned, and without a taint, of which the application's pods tolerate none."""
    spec = node.get("spec", {})
    tainted = any(taint.get("effect") in _REPELLING for taint in spec.get("taints") or ())
    return is_ready(node) and not spec.get("unschedulable") and not tainted


def _condition(node: Object, kind: str) -> str | None:
    return next((item["status"] for item in node["status"].get("conditions", ()) if item["type"] == kind), None)


def _allocatable(node: Object) -> Amounts:
    found = {name: quantity(text) for name, text in node["status"].get("allocatable", {}).items()}
    return {name: found.get(name, Decimal()) for name in ("cpu", "memory", "ephemeral-storage", "pods")}


def _take(room: Amounts, wanted: Amounts) -> None:
    for name, amount in wanted.items():
        room[name] = room.get(name, Decimal()) - amount


def requests_of(pod: Object) -> Amounts:
    """What the scheduler counts: containers and sidecars together, or the largest step before them."""
    spec = pod["spec"]
    names = ("cpu", "memory", "ephemeral-storage")
    total = {name: Decimal() for name in names}
    peak = dict(total)

    def amounts(container: Object) -> Amounts:
        asked = container.get("resources", {}).get("requests") or {}
        return {name: quantity(str(asked.get(name, "0"))) for name in names}

    for container in spec.get("initContainers") or ():
        asked = amounts(container)
        if container.get("restartPolicy") == "Always":
            total = {name: total[name] + asked[name] for name in names}
        peak = {
            name: max(peak[name], total[name] + asked[name] * (container.get("restartPolicy") != "Always"))
            for name in names
        }
    for container in spec["containers"]:
        asked = amounts(container)
        total = {name: total[name] + asked[name] for name in names}
    overhead = {name: quantity(str((spec.get("overhead") or {}).get(name, "0"))) for name in names}
    return {name: max(total[name], peak[name]) + overhead[name] for name in names}


def find_short_quotas(new: Sequence[NewPod], quotas: Sequence[Object]) -> Iterator[tuple[str, Decimal, Decimal]]:
    """Resource, needed and free amount, where a quota has no room for the new pods. Quotas with scopes are left out:
    they may not count these pods."""
    need = {"pods": Decimal(len(new)), "count/pods": Decimal(len(new))}
    for name in ("cpu", "memory", "ephemeral-storage"):
        need[f"requests.{name}"] = need[name] = sum((pod.requests[name] for pod in new), Decimal())
        need[f"limits.{name}"] = sum((pod.limits[name] for pod in new), Decimal())
    for quota in quotas:
        spec, status = quota.get("spec", {}), quota.get("status", {})
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        for name, hard in (status.get("hard") or spec.get("hard") or {}).items():
            free = quantity(hard) - quantity((status.get("used") or {}).get(name, "0"))
            if name in need and need[name] > free:
                yield name, need[name], free
