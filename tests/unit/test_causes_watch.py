"""Failures that are reported while an update runs: of pods and of rollouts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pulumi.automation.events import EngineEvent

from ops.adapters.automation import Failed, Run
from ops.causes.watch import FailureWatch
from tests.support.failing_objects import (
    CANARY,
    DEADLINE,
    EARLIER,
    LATER,
    TOKENS,
    Kubernetes,
    Object,
    container,
    deployment,
    job,
    pod,
    terminated,
)


def made_by_job(bad: Object) -> Object:
    owners = [{"kind": "Job", "name": "migrate-1", "uid": "uid-Job-migrate-1", "controller": True}]
    return {**bad, "metadata": {**bad["metadata"], "ownerReferences": owners}}


def watched(kubernetes: Kubernetes, said: list[str]) -> Run:
    """A run during which the cluster's news came in."""
    run = Run(exit_code=255, errors=["Job migrate-1: 4 errors occurred"])
    inputs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate-1", "namespace": "shop"}}
    run.failed = [Failed("urn", "kubernetes:batch/v1:Job", inputs)]
    watch = FailureWatch(lambda: kubernetes, said.append, lambda: None, 120)  # pyright: ignore[reportArgumentType]
    watch.begins("kubernetes:batch/v1:Job", inputs)
    with kubernetes.watched_by(watch):
        watch.explain(run)
    return run


def test_what_a_pod_wrote_outlives_it_and_is_shown_at_once() -> None:
    bad = made_by_job(pod("migrate-1-x", container(terminated(1), "migrate")))
    kubernetes = Kubernetes(job())
    kubernetes.logs["migrate-1-x", "migrate", False] = f"failed with {CANARY}\n".encode()
    kubernetes.news = [("ADDED", bad), ("MODIFIED", bad), ("DELETED", bad)]
    said: list[str] = []
    run = watched(kubernetes, said)
    assert said == [
        "  ! pod migrate-1-x, container migrate exited with code 1 (Error)",
        "      | failed with [secret]",
    ]
    assert run.causes[0].line.endswith("pod migrate-1-x, container migrate exited with code 1 (Error)")
    assert run.causes[0].log == ["failed with [secret]"]
    assert any("Its pod is gone" in note for note in run.causes[0].notes)


def test_other_pods_and_deleted_pods_are_not_reported() -> None:
    stranger = pod("cron-1", container(terminated(1)))
    meta = {"deletionTimestamp": EARLIER, "deletionGracePeriodSeconds": 30}
    deleted = made_by_job(pod("migrate-1-y", container(terminated(143, finishedAt=LATER)), **meta))
    kubernetes = Kubernetes(job())
    kubernetes.news = [("ADDED", stranger), ("MODIFIED", deleted)]
    said: list[str] = []
    assert watched(kubernetes, said).causes[0].pod is None
    assert said == []


def engine_event(what: str, kind: str) -> EngineEvent:
    """`resourcePreEvent` or `resOutputsEvent` of an object with the name `backend`."""
    token = {"Deployment": "kubernetes:apps/v1:Deployment", "Service": "kubernetes:core/v1:Service"}[kind]
    inputs = {"apiVersion": TOKENS.get(kind, "v1"), "kind": kind, "metadata": {"name": "backend", "namespace": "shop"}}
    state = {"type": token, "urn": f"urn:{kind}", "inputs": inputs, "custom": True}
    step = {"op": "update", "urn": f"urn:{kind}", "type": token, "new": state}
    return EngineEvent.from_json({"sequence": 1, "timestamp": 1, what: {"metadata": step}})


@pytest.mark.parametrize(
    ("engine_events", "ends"),
    [
        ([("resourcePreEvent", "Deployment")], 1),
        ([("resourcePreEvent", "Deployment"), ("resOutputsEvent", "Service")], 1),
        ([("resourcePreEvent", "Deployment"), ("resOutputsEvent", "Deployment")], 0),
        ([("resourcePreEvent", "Service")], 0),
    ],
)
def test_only_a_rollout_that_the_engine_waits_for_ends_the_update(
    engine_events: list[tuple[str, str]], ends: int
) -> None:
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(going), deployment(DEADLINE), awaited=False, engine_events=engine_events) == ends


def stops(
    *news: Object, skip: bool = False, awaited: bool = True, engine_events: Sequence[tuple[str, str]] = ()
) -> int:
    """How often the update is ended by what a Deployment goes through."""
    ended: list[None] = []
    kubernetes = Kubernetes()
    kubernetes.news = [("MODIFIED", one) for one in news]
    watch = FailureWatch(lambda: kubernetes, lambda _: None, lambda: ended.append(None), 120)  # pyright: ignore[reportArgumentType]
    annotations = {"pulumi.com/skipAwait": "true"} if skip else {}
    metadata = {"name": "backend", "namespace": "shop", "annotations": annotations}
    if awaited:
        watch.begins(
            "kubernetes:apps/v1:Deployment", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        )
    for what, kind in engine_events:
        watch(engine_event(what, kind))
    with kubernetes.watched_by(watch):
        return len(ended)


def test_an_update_is_ended_when_its_rollout_has_failed() -> None:
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(going), deployment(DEADLINE), deployment(DEADLINE)) == 1
    assert stops(deployment(going), deployment(going)) == 0
    assert stops(deployment(going), deployment(DEADLINE), skip=True) == 0
    assert stops(deployment(going), deployment(DEADLINE), awaited=False) == 0


def test_the_verdict_on_the_release_before_does_not_end_the_rollback() -> None:
    assert stops(deployment(DEADLINE), deployment(DEADLINE)) == 0
    later = {**DEADLINE, "lastUpdateTime": LATER}
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(DEADLINE), deployment(going), deployment(later)) == 1
