"""Which failures are a release's fault: only those quarantine it."""

from __future__ import annotations

from typing import Any

import pytest

from ops.adapters.automation import Failed
from ops.causes.cause import Cause
from ops.causes.pods import is_blameless, problems
from ops.decisions.blame import find_excuse
from settings.commands import MIGRATION_GUARD


def failed(component: str, kind: str = "kubernetes:batch/v1:Job", name: str = "it") -> Failed:
    return Failed(f"urn:pulumi:prod::runbook::{component}${kind}::{name}", kind, {"metadata": {"name": name}})


OUTSIDE, OWN = Cause("Job it", "a node was drained", outside=True), Cause("Job it", "exit code 1")


@pytest.mark.parametrize(
    ("resource", "causes", "innocent"),
    [
        (failed("runbook:backup:PreRelease"), [OWN], True),  # R1: its backup failed
        (failed("runbook:data:DataServices", "kubernetes:apps/v1:StatefulSet"), [], True),
        (failed("runbook:release:Application", "kubernetes:networking.k8s.io/v1:Ingress"), [], True),
        (failed("runbook:release:Migration"), [OUTSIDE], True),
        (failed("runbook:release:Migration"), [OWN], False),
        (failed("runbook:release:Smoke"), [], False),
        (failed("runbook:release:Application", "kubernetes:apps/v1:Deployment"), [], False),
        (failed("runbook:rotation:Verification"), [OWN], False),
        (failed("runbook:release:Migration", "command:local:Command"), [], False),
        (failed("a:strange:Program", "a:strange:Thing"), [], False),
    ],
)
def test_only_what_runs_the_release_can_be_its_fault(resource: Failed, causes: list[Cause], innocent: bool) -> None:
    assert (find_excuse([resource], causes) is not None) is innocent


def test_one_fault_of_its_own_is_enough() -> None:
    drained, broken = failed("runbook:release:Smoke"), failed("runbook:release:Rehearsal", name="other")
    assert find_excuse([drained, broken], [OUTSIDE, Cause("Job other", "exit code 1")]) is None
    assert find_excuse([], []) is None, "the program itself failed, or nothing is known"


def pod(*, containers: list[dict[str, Any]] | None = None, **status: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "app"}], "initContainers": [{"name": MIGRATION_GUARD, "restartPolicy": "Always"}]}
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": spec,
        "status": {"phase": "Pending", "containerStatuses": containers or [], **status},
    }


def container(name: str = "app", **state: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "restartCount": 0}


UNSCHEDULED = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
CRASHED = pod(phase="Running", containers=[container(terminated={"exitCode": 1, "reason": "Error"})])


@pytest.mark.parametrize(
    ("what", "innocent"),
    [
        (pod(**UNSCHEDULED), True),
        (pod(containers=[container(waiting={"reason": "ContainerCreating"})]), True),
        (pod(containers=[container(waiting={"reason": "ImagePullBackOff", "message": "timeout"})]), True),
        (pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), True),
        (
            pod(phase="Failed", reason="Evicted", message="Container app exceeded its storage limit"),
            False,
        ),
        (pod(phase="Failed", reason="DeadlineExceeded"), False),
        (pod(containers=[container(waiting={"reason": "CreateContainerConfigError"})]), False),
        (pod(phase="Running", containers=[container(running={})]), False),
        (CRASHED, False),
    ],
)
def test_a_pod_that_never_ran_or_was_evicted_says_nothing_about_its_release(what: Any, innocent: bool) -> None:
    assert is_blameless([what]) is innocent


def test_a_pod_that_crashes_beside_one_that_finds_no_node_does() -> None:
    assert not is_blameless([pod(**UNSCHEDULED), CRASHED])


def test_a_cancelled_migration_is_explained_by_who_held_the_lock() -> None:
    """R2: the tool says only that its statement was cancelled."""
    said = "no backup begins\nthe migration waited\nerror: pid 7 (a report) held the lock\n"
    guard = container(MIGRATION_GUARD, terminated={"exitCode": 1, "reason": "Error", "message": said})
    found = problems(
        pod(
            phase="Failed",
            containers=[container(terminated={"exitCode": 1, "message": "canceling statement"})],
            initContainerStatuses=[guard],
        )
    )
    assert (found[0].container, found[0].message, found[0].outside) == (
        MIGRATION_GUARD,
        "pid 7 (a report) held the lock",
        True,
    )
    guard["state"]["terminated"] |= {"exitCode": 143}
    assert problems(pod(phase="Running", initContainerStatuses=[guard]))[0].outside is False
