"""K2: how long a rollout may take is one wave's deadline, and the time without a node or an image does not count."""

from __future__ import annotations

from typing import Any

from ops.causes.starting import StartingPods

CREATING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING: dict[str, Any] = {"running": {}}


def pod(name: str, state: dict[str, Any] | None, *, version: str = "new", ready: bool = False, **meta: Any) -> Any:
    owners = [{"kind": "ReplicaSet", "name": f"backend-{version}", "controller": True}]
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {"pod-template-hash": version},
            "ownerReferences": owners,
            **meta,
        },
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "backend", "state": state}] if state else [],
        },
    }


def late(*seen: tuple[float, Any], at: float, awaited: bool = True) -> list[str]:
    pods = StartingPods(120)
    pods.see(pod("old", RUNNING, version="old"), (), 0)
    for moment, item in seen:
        pods.see(item, ("backend",) if awaited else (), moment)
    return [name for name, _ in pods.find_late(at)]


def test_a_pod_that_has_started_has_its_deadline() -> None:
    assert late((10, pod("a", RUNNING)), at=129) == []
    assert late((10, pod("a", RUNNING)), at=130) == ["backend"]
    crashing = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert late((10, pod("a", RUNNING)), (60, pod("a", crashing)), at=130) == ["backend"], "restarts begin no new one"
    assert late((10, pod("a", {"waiting": {"reason": "ImagePullBackOff"}})), at=130) == ["backend"]


def test_a_cold_node_is_waited_for() -> None:
    """Scheduling and pulling have the Deployment's own, longer deadline."""
    assert late((10, pod("a", None)), (200, pod("a", CREATING)), at=600) == []
    assert late((10, pod("a", None)), (200, pod("a", CREATING)), (300, pod("a", RUNNING)), at=419) == []


def test_what_became_ready_or_went_or_is_of_the_version_before_is_not_late() -> None:
    assert late((10, pod("a", RUNNING)), (50, pod("a", RUNNING, ready=True)), at=900) == []
    assert late((10, pod("a", RUNNING)), (50, pod("a", RUNNING, deletionTimestamp="now")), at=900) == []
    assert late((10, pod("old", RUNNING, version="old")), at=900) == []
    assert late((10, pod("a", RUNNING)), at=900, awaited=False) == []
    pods = StartingPods(120)
    pods.see(pod("a", RUNNING), ("backend",), 10)
    pods.see(pod("a", RUNNING), ("backend",), 20, gone=True)
    assert pods.find_late(900) == []
