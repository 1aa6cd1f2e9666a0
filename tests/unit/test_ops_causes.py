"""Why an update failed, from what the API server says about each kind of failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from ops.adapters.automation import Run
from ops.adapters.cluster import Unreachable
from ops.causes.cause import Cause
from ops.causes.pods import problems
from ops.causes.watch import target_of
from ops.errors import Stuck
from tests.support.failing_objects import (
    DEADLINE,
    Kubernetes,
    Object,
    cause,
    container,
    deployment,
    failing,
    item,
    job,
    pod,
    replica_set,
    terminated,
    waiting,
)

# -- Jobs ----------------------------------------------------------------------------------------------


def test_a_job_names_pod_container_exit_code_and_last_lines() -> None:
    bad = pod("migrate-1-xyz", container(terminated(1), "migrate"), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["migrate-1-xyz", "migrate", False] = b"Applying 003\ncolumn does not exist\n"
    kubernetes.event(kubernetes.objects[0], "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    found = cause(kubernetes, "Job", "migrate-1")
    assert found.line == "Job migrate-1 failed: pod migrate-1-xyz, container migrate exited with code 1 (Error)"
    assert (found.reason, found.exit_code, found.container) == ("BackoffLimitExceeded", 1, "migrate")
    assert str(found).splitlines()[2:] == [
        "  last lines of the log:",
        "    | Applying 003",
        "    | column does not exist",
        "  events:",
        "    BackoffLimitExceeded (3 times): Job has reached the specified backoff limit",
    ]


def test_a_main_container_is_blamed_before_the_sidecar_that_was_ended_for_it() -> None:
    statuses = {"initContainerStatuses": [container(terminated(137), "server")]}
    never = {"restartPolicy": "Never"}
    bad = pod("r-1", container(terminated(3), "smoke"), phase="Failed", spec=never, status=statuses)
    assert "container smoke exited with code 3" in cause(Kubernetes(job(), bad), "Job", "migrate-1").line


@pytest.mark.parametrize(("code", "reported"), [(0, 0), (3, 2)])
def test_a_sidecar_that_is_stopped_after_the_main_container_succeeded_is_no_problem(code: int, reported: int) -> None:
    statuses = {"initContainerStatuses": [container(terminated(137), "server")]}
    spec = {"initContainers": [{"name": "server", "restartPolicy": "Always"}]}
    assert len(problems(pod("r-1", container(terminated(code), "smoke"), spec=spec, status=statuses))) == reported


def test_a_sidecar_that_crashes_is_blamed_when_the_main_container_never_ran() -> None:
    server = container(waiting("CrashLoopBackOff"), "server", lastState=terminated(7), restartCount=2)
    bad = pod("r-1", container(waiting("PodInitializing"), "smoke"), status={"initContainerStatuses": [server]})
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["r-1", "server", True] = b"no such module\n"
    found = cause(kubernetes, "Job", "migrate-1")
    assert "container server exited with code 7 (Error), restarted 2 times, now CrashLoopBackOff" in found.line
    assert found.log == ["no such module"]


PROXY: dict[str, Any] = {"initContainers": [{"name": "db-proxy", "restartPolicy": "Always"}, {"name": "assets"}]}


@pytest.mark.parametrize(
    ("status", "main", "words"),
    [
        (
            container(waiting("CrashLoopBackOff"), "db-proxy", lastState=terminated(2), restartCount=3),
            container(terminated(1)),
            "sidecar db-proxy exited with code 2 (Error), restarted 3 times, now CrashLoopBackOff",
        ),
        (
            container({"running": {}}, "db-proxy", started=True),
            container({"running": {}}, started=True),
            "sidecar db-proxy runs, but its readiness probe does not succeed",
        ),
        (
            container({"running": {}}, "db-proxy", started=False),
            container(waiting("PodInitializing")),
            "sidecar db-proxy runs, but its startup probe does not succeed",
        ),
        (
            container(terminated(4), "assets"),
            container(waiting("PodInitializing")),
            "init container assets exited with code 4 (Error)",
        ),
        (
            container(waiting("ErrImagePull", "not found"), "assets"),
            container(waiting("PodInitializing")),
            "init container assets waits: ErrImagePull",
        ),
    ],
)
def test_what_starts_before_a_service_is_blamed_before_the_service_that_fails_without_it(
    status: dict[str, Any], main: dict[str, Any], words: str
) -> None:
    bad = pod("backend-2-x", main, spec=PROXY, status={"initContainerStatuses": [status]})
    assert problems(bad)[0].text == words


def test_a_sidecar_that_runs_again_is_no_problem_and_the_service_is_blamed() -> None:
    again = container({"running": {}}, "db-proxy", ready=True, started=True, lastState=terminated(1), restartCount=1)
    bad = pod("backend-2-x", container(terminated(1)), spec=PROXY, status={"initContainerStatuses": [again]})
    assert [problem.text for problem in problems(bad)] == ["container app exited with code 1 (Error)"]


def test_a_container_for_debugging_explains_nothing_while_the_service_fails() -> None:
    debugging = {"ephemeralContainerStatuses": [container(terminated(1), "debug")]}
    assert problems(pod("backend-2-x", container(terminated(3)), status=debugging))[0].container == "app"


def test_a_job_whose_pods_were_deleted_says_what_is_left() -> None:
    kubernetes = Kubernetes(job("DeadlineExceeded", "Job was active longer than specified deadline"))
    found = cause(kubernetes, "Job", "migrate-1")
    assert found.line == "Job migrate-1 failed: Job was active longer than specified deadline"
    assert found.notes[0] == "reason: DeadlineExceeded"
    assert "no pods any more" in found.notes[1]


def test_a_job_whose_pods_are_refused_by_a_quota() -> None:
    kubernetes = Kubernetes(job("DeadlineExceeded", "Job was active longer than specified deadline"))
    refused = 'Error creating: pods "migrate-1-a" is forbidden: exceeded quota: shop, requested: limits.memory=1Gi'
    kubernetes.event(kubernetes.objects[0], "FailedCreate", refused)
    assert f"FailedCreate (3 times): {refused}" in cause(kubernetes, "Job", "migrate-1").line


def test_a_job_that_has_completed_is_no_cause() -> None:
    done = item("Job", "migrate-1", {}, {"conditions": [{"type": "Complete", "status": "True"}]})
    run = failing(Kubernetes(done), "Job", "migrate-1")
    assert (run.causes, run.errors) == ([], ["Job migrate-1: 2 errors occurred"])


# -- pods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (
            pod("p", container(terminated(137, "OOMKilled")), spec={
                "containers": [{"name": "app", "resources": {"limits": {"memory": "64Mi"}}}]
            }),
            "container app exited with code 137 (SIGKILL, OOMKilled, its memory limit is 64Mi)",
        ),
        (
            pod("p", container(waiting("ImagePullBackOff", 'Back-off pulling image "r/shop@sha256:1"'))),
            'container app waits: ImagePullBackOff: Back-off pulling image "r/shop@sha256:1"',
        ),
        (
            pod("p", container(waiting("CreateContainerConfigError", 'secret "env-1" not found'))),
            'container app waits: CreateContainerConfigError: secret "env-1" not found',
        ),
        (
            pod("p", phase="Pending", status={
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu."}]
            }),
            "cannot be scheduled: 0/1 nodes: Insufficient cpu.",
        ),
        (
            pod("p", phase="Failed", status={"reason": "Evicted", "message": "The node was low on resource: memory."}),
            "was evicted: The node was low on resource: memory.",
        ),
        (
            pod("p", container(waiting("CrashLoopBackOff"), lastState=terminated(143), restartCount=4)),
            "container app exited with code 143 (SIGTERM, Error), restarted 4 times, now CrashLoopBackOff",
        ),
        (pod("p", phase="Pending"), "is not ready yet (phase Pending)"),
    ],
    ids=["out of memory", "image pull", "missing secret", "unschedulable", "evicted", "crash loop", "starting"],
)  # fmt: skip
def test_a_pod_is_explained_by_what_is_wrong_with_it(bad: Object, words: str) -> None:
    assert cause(Kubernetes(bad), "Pod", "p").line == f"Pod p is not ready: {words}"


@pytest.mark.parametrize(("started", "probe"), [(True, "readiness"), (False, "startup")])
def test_a_probe_that_fails_is_reported_with_its_event(started: bool, probe: str) -> None:
    bad = pod("p", container({"running": {}}, started=started))
    kubernetes = Kubernetes(bad)
    kubernetes.logs["p", "app", False] = b"no database\n"
    kubernetes.event(bad, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    found = cause(kubernetes, "Pod", "p")
    assert f"container app runs, but its {probe} probe does not succeed: Unhealthy (3 times)" in found.line
    assert "statuscode: 503" in found.line
    assert found.log == ["no database"]


def test_a_pod_that_is_held_up_is_reported_with_its_event() -> None:
    bad = pod("p", container(waiting("ContainerCreating")), phase="Pending")
    kubernetes = Kubernetes(bad)
    kubernetes.event(bad, "FailedMount", 'MountVolume.SetUp failed: secret "tls" not found')
    assert 'secret "tls" not found' in cause(kubernetes, "Pod", "p").line


# -- what makes pods -----------------------------------------------------------------------------------


def test_a_deployment_is_explained_by_the_pods_of_its_newest_revision() -> None:
    old = pod("backend-1-a", container(terminated(9)), labels={"app": "x", "pod-template-hash": "1"})
    new = pod("backend-2-b", container(terminated(1)), labels={"app": "x", "pod-template-hash": "2"})
    kubernetes = Kubernetes(
        deployment(DEADLINE),
        replica_set(
            "backend-1",
            9,
        ),
        replica_set("backend-2", 10),
        old,
        new,
    )
    kubernetes.objects[1]["metadata"]["labels"]["pod-template-hash"] = "1"
    kubernetes.objects[2]["metadata"]["labels"]["pod-template-hash"] = "2"
    found = cause(kubernetes, "Deployment", "backend")
    assert found.line == "Deployment backend is not ready: pod backend-2-b, container app exited with code 1 (Error)"
    assert found.reason == "ProgressDeadlineExceeded"
    assert "has timed out progressing" in found.notes[0]


@pytest.mark.parametrize("where", ["Deployment", "ReplicaSet"])
def test_pods_that_a_quota_refuses_are_explained_by_the_conditions(where: str) -> None:
    message = 'pods "backend-2-c" is forbidden: exceeded quota: shop'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    parts = (deployment(refused), replica_set("backend-2", 2))
    if where == "ReplicaSet":
        parts = (deployment(), replica_set("backend-2", 2, refused))
    found = cause(Kubernetes(*parts), "Deployment", "backend")
    assert found.line == f"Deployment backend is not ready: its pods are refused: {message}"


def test_a_deployment_that_has_become_ready_is_no_cause() -> None:
    ready = {"availableReplicas": 2, "updatedReplicas": 2, "replicas": 2}
    done = {**deployment(), "status": ready}
    assert failing(Kubernetes(done, replica_set("backend-2", 2)), "Deployment", "backend").causes == []


def test_a_statefulset_is_explained_by_its_pods() -> None:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}}
    bad = pod("postgres-0", container(terminated(1), "postgres"))
    found = cause(Kubernetes(item("StatefulSet", "postgres", spec), bad), "StatefulSet", "postgres")
    assert found.line.endswith("pod postgres-0, container postgres exited with code 1 (Error)")
    assert "0 of 1 pods ready" in found.notes[0]


# -- storage and network -------------------------------------------------------------------------------


def test_a_claim_that_stays_pending_is_reported_with_its_event() -> None:
    claim = item("PersistentVolumeClaim", "data", {"storageClassName": "fast"}, {"phase": "Pending"})
    kubernetes = Kubernetes(claim)
    kubernetes.event(claim, "ProvisioningFailed", 'storageclass "fast" not found')
    line = cause(kubernetes, "PersistentVolumeClaim", "data").line
    assert line == 'PersistentVolumeClaim data is Pending (storage class fast): storageclass "fast" not found'


def test_a_service_without_pods_names_its_selector() -> None:
    service = item("Service", "backend", {"selector": {"app": "y"}})
    assert cause(Kubernetes(service), "Service", "backend").line == (
        "Service backend has no ready endpoints: its selector app=y matches no pod"
    )


def test_a_service_whose_pods_fail_is_explained_by_them() -> None:
    service = item("Service", "backend", {"selector": {"app": "x"}})
    assert (
        "container app exited with code 2"
        in cause(Kubernetes(service, pod("p", container(terminated(2)))), "Service", "backend").line
    )


def test_a_load_balancer_and_an_ingress_without_address() -> None:
    service = item("Service", "front", {"type": "LoadBalancer", "selector": {"app": "x"}})
    assert "no load balancer has given it one" in cause(Kubernetes(service), "Service", "front").line
    rule = {"http": {"paths": [{"backend": {"service": {"name": "backend"}}}]}}
    ingress = item("Ingress", "shop", {"ingressClassName": "traefik", "rules": [rule]})
    assert "Service backend does not exist" in cause(Kubernetes(ingress), "Ingress", "shop").line
    there = Kubernetes(ingress, item("Service", "backend"))
    assert "no controller of ingress class traefik" in cause(there, "Ingress", "shop").line


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        'admission webhook "policy.example.com" denied the request: images need a digest',
        'Deployment.apps "backend" is invalid: spec.selector: field is immutable',
        'jobs.batch "backend" is forbidden: exceeded quota: shop, requested: count/jobs.batch=1',
    ],
)
def test_what_the_api_server_refused_is_reported_in_its_words(refusal: str) -> None:
    words = f'resource "urn:x" was not successfully created by the Kubernetes API server: {refusal}'
    line = cause(Kubernetes(), "Deployment", "backend", words).line
    assert line == f"Deployment backend was refused by the API server: {refusal}"


# -- the cluster may not answer ------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_hides_nothing_and_is_one_line() -> None:
    class Gone(Kubernetes):
        @contextmanager
        def http(self) -> Iterator[httpx.Client]:
            raise Unreachable("The cluster at https://127.0.0.1:9 cannot be reached: refused")
            yield

    run = failing(Gone(), "Job", "migrate-1")
    assert run.errors == [
        "The cause could not be looked up: The cluster at https://127.0.0.1:9 cannot be reached: refused",
        "Job migrate-1: 2 errors occurred",
    ]


def test_a_slow_cluster_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.causes.watch._EXPLAIN_SECONDS", 0)
    run = failing(Kubernetes(job()), "Job", "migrate-1")
    assert "the cluster is slow" in run.errors[0]
    assert run.errors[1:] == ["Job migrate-1: 2 errors occurred"]


def test_an_answer_that_is_not_understood_hides_nothing() -> None:
    broken = job()
    broken["status"]["conditions"] = 7
    run = failing(Kubernetes(broken), "Job", "migrate-1")
    assert run.errors == ["The cause could not be looked up: TypeError", "Job migrate-1: 2 errors occurred"]


def test_resources_that_are_no_objects_are_not_looked_for() -> None:
    assert target_of("command:local:Command", {"create": "false"}) is None
    assert target_of("kubernetes:helm.sh/v3:Release", {"chart": "x"}) is None


# -- where it is shown ---------------------------------------------------------------------------------


def test_the_cause_is_the_gist_of_a_run_and_the_brief_of_an_error() -> None:
    found = Cause("Job m", "Job m failed: pod m-1, container m exited with code 1", log=["a", "b"])
    run = Run(errors=[str(found), "The engine: 4 errors"], causes=[found])
    assert run.gist == found.line
    error = Stuck(f"The rollback failed:\n{run.why}", run.causes)
    assert error.brief == f"The rollback failed: {found.line}"
    assert Stuck("No pods.\nmore").brief == "No pods."
