"""Why an update failed, from what the API server says about each kind of failure."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from pulumi.automation.events import EngineEvent

from ops.causes.cause import Cause
from ops.causes.text import WIDTH, Masker
from ops.causes.watch import FailureWatch, target_of
from ops.cluster import Unreachable
from ops.engine import Failed, Run
from ops.errors import Stuck

CANARY = "canary-5f0c2e-in-the-coal-mine"
EARLIER, LATER = "2026-11-28T12:00:00Z", "2026-11-28T12:00:30Z"
Object = dict[str, Any]


def item(kind: str, name: str, spec: Object | None = None, status: Object | None = None, **meta: Any) -> Object:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{kind}-{name}", "creationTimestamp": EARLIER, **meta}
    return {"kind": kind, "metadata": metadata, "spec": spec or {}, "status": status or {}}


def terminated(code: int, reason: str = "Error", **more: Any) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": EARLIER, **more}}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def container(state: Object, name: str = "app", **more: Any) -> Object:
    return {"name": name, "state": state, "ready": False, "restartCount": 0, **more}


def pod(name: str, *containers: Object, phase: str = "Running", spec: Object | None = None, **more: Any) -> Object:
    status = {"phase": phase, "containerStatuses": list(containers), **more.pop("status", {})}
    meta = {"labels": {"app": "x"}, **more}
    return item("Pod", name, {"restartPolicy": "Always", **(spec or {})}, status, **meta)


def job(reason: str = "BackoffLimitExceeded", message: str = "Job has reached the specified backoff limit") -> Object:
    failed = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return item("Job", "migrate-1", {"selector": {"matchLabels": {"app": "x"}}}, {"conditions": [failed]})


def deployment(*conditions: Object) -> Object:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}}
    return item("Deployment", "backend", spec, {"availableReplicas": 1, "replicas": 3, "conditions": list(conditions)})


DEADLINE = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": 'ReplicaSet "backend-2" has timed out progressing.',
}


def replica_set(name: str, revision: int, *conditions: Object) -> Object:
    owner = [{"kind": "Deployment", "name": "backend", "uid": "uid-Deployment-backend", "controller": True}]
    labels = {"app": "x", "pod-template-hash": str(revision)}
    meta = {"annotations": {"deployment.kubernetes.io/revision": str(revision)}, "labels": labels}
    return item("ReplicaSet", name, {}, {"conditions": list(conditions)}, ownerReferences=owner, **meta)


class Kubernetes:
    """An API server's answers about one namespace."""

    namespace = "shop"

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.logs: dict[tuple[str, str, bool], bytes] = {}
        self.events: list[Object] = []
        self.secrets: dict[str, str] = {"a": CANARY}
        self.secrets_readable = True
        self.news: list[tuple[str, Object]] = []
        self.read = threading.Semaphore(0)
        """Once for each watch that has seen all news."""
        self.over = threading.Event()

    def event(self, about: Object, reason: str, message: str, kind: str = "Warning", at: str = EARLIER) -> None:
        uid = about["metadata"]["uid"]
        told = {"reason": reason, "message": message, "type": kind, "lastTimestamp": at, "count": 3}
        self.events.append({"involvedObject": {"uid": uid}, **told})

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        with httpx.Client(transport=httpx.MockTransport(self._answer), base_url="http://kubernetes") as http:
            yield http

    def changes(self, path: str, _seconds: float) -> Iterator[tuple[str, Object]]:
        plural = path.rsplit("/", 1)[-1]
        yield from ((kind, one) for kind, one in self.news if f"{one['kind'].lower()}s" == plural)
        self.read.release()
        self.over.wait(5)

    @contextmanager
    def watched_by(self, watch: FailureWatch) -> Iterator[None]:
        """While the watch has seen all news."""
        with watch:
            assert all(self.read.acquire(timeout=5) for _ in ("pods", "deployments"))
            try:
                yield
            finally:
                self.over.set()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        parts, asked = request.url.path.strip("/").split("/"), dict(request.url.params)
        inside = parts[parts.index("namespaces") + 2 :]
        match inside:
            case ["secrets"] if not self.secrets_readable:
                return httpx.Response(403, json={"kind": "Status"})
            case ["secrets"]:
                data = {key: base64.b64encode(value.encode()).decode() for key, value in self.secrets.items()}
                return httpx.Response(200, json={"items": [{"data": data}]})
            case ["events"]:
                selection = dict(part.split("=") for part in asked["fieldSelector"].split(","))
                found = [
                    event for event in self.events if event["involvedObject"]["uid"] == selection["involvedObject.uid"]
                ]
                found = [event for event in found if event["type"] == selection.get("type", event["type"])]
                return httpx.Response(200, json={"items": found})
            case ["pods", name, "log"]:
                log = self.logs.get((name, asked["container"], "previous" in asked))
                return httpx.Response(400) if log is None else httpx.Response(200, content=log)
            case [plural, name]:
                found = [one for one in self._all(plural) if one["metadata"]["name"] == name]
                return httpx.Response(200, json=found[0]) if found else httpx.Response(404, json={})
            case [plural]:
                labels = dict(part.split("=") for part in asked["labelSelector"].split(","))
                chosen = [
                    one for one in self._all(plural) if labels.items() <= one["metadata"].get("labels", {}).items()
                ]
                return httpx.Response(200, json={"items": chosen})
        return httpx.Response(404)

    def _all(self, plural: str) -> list[Object]:
        kinds = {"ingresses": "Ingress"}
        return [one for one in self.objects if one["kind"] == kinds.get(plural) or f"{one['kind'].lower()}s" == plural]


VERSIONS = {"Job": "batch/v1", "Ingress": "networking.k8s.io/v1"}
TOKENS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", **VERSIONS}


def failing(kubernetes: Any, kind: str, name: str, words: str = "2 errors occurred") -> Run:
    """A run in which the engine says that this object failed."""
    version = TOKENS.get(kind, "v1")
    urn = f"urn:pulumi:dev::p::kubernetes:{version if '/' in version else 'core/v1'}:{kind}::{name}"
    inputs = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    run = Run(exit_code=255, errors=[f"{kind} {name}: {words}"])
    run.failed = [Failed(urn, urn.split("::")[2], inputs)]
    run._words = {urn: [words]}
    FailureWatch(lambda: kubernetes, lambda _: None, lambda: None).explain(run)
    return run


def cause(kubernetes: Any, kind: str, name: str, words: str = "2 errors occurred") -> Cause:
    run = failing(kubernetes, kind, name, words)
    assert len(run.causes) == 1, run.errors
    assert run.errors[-1] == f"The engine: {kind} {name}: {words}", "its own words stay"
    return run.causes[0]


# -- Jobs ----------------------------------------------------------------------------------------------


def test_a_job_tells_pod_container_exit_code_and_last_lines() -> None:
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
    bad = pod("r-1", container(terminated(3), "smoke"), phase="Failed", status=statuses)
    assert "container smoke exited with code 3" in cause(Kubernetes(job(), bad), "Job", "migrate-1").line


def test_a_sidecar_that_crashes_is_blamed_when_the_main_container_never_ran() -> None:
    server = container(waiting("CrashLoopBackOff"), "server", lastState=terminated(7), restartCount=2)
    bad = pod("r-1", container(waiting("PodInitializing"), "smoke"), status={"initContainerStatuses": [server]})
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["r-1", "server", True] = b"no such module\n"
    found = cause(kubernetes, "Job", "migrate-1")
    assert "container server exited with code 7 (Error), restarted 2 times, now CrashLoopBackOff" in found.line
    assert found.log == ["no such module"]


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
def test_a_pod_is_told_by_what_is_wrong_with_it(bad: Object, words: str) -> None:
    assert cause(Kubernetes(bad), "Pod", "p").line == f"Pod p is not ready: {words}"


@pytest.mark.parametrize(("started", "probe"), [(True, "readiness"), (False, "startup")])
def test_a_probe_that_fails_is_told_with_its_event(started: bool, probe: str) -> None:
    bad = pod("p", container({"running": {}}, started=started))
    kubernetes = Kubernetes(bad)
    kubernetes.logs["p", "app", False] = b"no database\n"
    kubernetes.event(bad, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    found = cause(kubernetes, "Pod", "p")
    assert f"container app runs, but its {probe} probe does not succeed: Unhealthy (3 times)" in found.line
    assert "statuscode: 503" in found.line
    assert found.log == ["no database"]


def test_a_pod_that_is_held_up_is_told_with_its_event() -> None:
    bad = pod("p", container(waiting("ContainerCreating")), phase="Pending")
    kubernetes = Kubernetes(bad)
    kubernetes.event(bad, "FailedMount", 'MountVolume.SetUp failed: secret "tls" not found')
    assert 'secret "tls" not found' in cause(kubernetes, "Pod", "p").line


# -- what makes pods -----------------------------------------------------------------------------------


def test_a_deployment_is_told_by_the_pods_of_its_newest_revision() -> None:
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
def test_pods_that_a_quota_refuses_are_told_from_the_conditions(where: str) -> None:
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


def test_a_statefulset_is_told_by_its_pods() -> None:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}}
    bad = pod("postgres-0", container(terminated(1), "postgres"))
    found = cause(Kubernetes(item("StatefulSet", "postgres", spec), bad), "StatefulSet", "postgres")
    assert found.line.endswith("pod postgres-0, container postgres exited with code 1 (Error)")
    assert "0 of 1 pods ready" in found.notes[0]


# -- storage and network -------------------------------------------------------------------------------


def test_a_claim_that_stays_pending_is_told_with_its_event() -> None:
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


def test_a_service_whose_pods_fail_is_told_by_them() -> None:
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
def test_what_the_api_server_refused_is_told_in_its_words(refusal: str) -> None:
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


# -- secrets -------------------------------------------------------------------------------------------


def masker(**values: str) -> Masker:
    made = Masker()
    made.learn([{"data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}])
    return made


def forms(value: str) -> Mapping[str, str]:
    return {
        "plain": value,
        "base64": base64.b64encode(value.encode()).decode(),
        "within escapes": f"\x1b[31m{value[:5]}\x1b[0m{value[5:]}\x1b]0;title\x07",
        "with zero bytes": value[:5] + "\0" + value[5:],
    }


@pytest.mark.parametrize("form", forms(CANARY))
def test_a_secret_is_masked_in_every_form(form: str) -> None:
    assert masker(a=CANARY).lines(f"key={forms(CANARY)[form]}.") in (["key=[secret]."], ["key=[secret]==."])


def test_the_password_of_a_url_is_masked_alone_and_where_nobody_knows_it() -> None:
    known = masker(url="postgresql://shop:p%40ss-word-1@db/shop")
    assert known.line("p%40ss-word-1 p@ss-word-1") == "[secret] [secret]"
    assert known.line("redis://default:unknown@cache:6379/0") == "redis://default:[secret]@cache:6379/0"
    assert known.line("http://backend:3000/api") == "http://backend:3000/api"
    assert known.line("Authorization: Bearer abcdefgh12345") == "Authorization: Bearer [secret]"


def test_a_key_of_many_lines_is_masked_line_by_line() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n"
    assert masker(tls=key).lines("a\nkqhkiG9w0BAQEF\nb") == ["a", "[secret]", "b"]
    assert masker().lines(f"a\n{key}b") == ["a", "[secret]", "b"]


def test_registry_passwords_within_json_are_masked() -> None:
    auths = {"auths": {"r.example.com": {"username": "puller", "password": "pull-me-1"}}}
    assert masker(config=json.dumps(auths)).line("login with pull-me-1 failed") == "login with [secret] failed"


def test_nothing_of_overlapping_secrets_is_left() -> None:
    assert masker(a="abcdefgh", b="fghijklm").line("abcdefghijklm") == "[secret]"


def test_a_line_is_masked_before_it_is_cut() -> None:
    line = "x" * (WIDTH - 5) + CANARY + "y" * 50
    shown = masker(a=CANARY).lines(line)[0]
    assert "canar" not in shown
    assert shown.endswith("characters more)")
    assert len(shown) < WIDTH + 40


@pytest.mark.parametrize("size", [6, 12, len(CANARY) - 1])
def test_a_text_that_was_cut_within_a_secret_shows_nothing_of_it(size: int) -> None:
    known = masker(a=CANARY)
    assert known.text(f"token={CANARY[:size]}", cut_end=True) == "token=[secret]"
    assert known.text(f"{CANARY[-size:]} end", cut_start=True) == "[secret] end"
    assert known.text(f"token={CANARY[:size]}") == f"token={CANARY[:size]}", "an end that was not cut is no secret"


def test_a_log_is_the_last_lines_without_what_moves_a_terminal() -> None:
    text = b"\n".join(
        [*(b"line %d" % n for n in range(30)), b"50%\r100%", b"\xff\x00\x1b[2Jbinary", b"\xe2\x80\xaeevil"]
    )
    lines = masker().lines(text)
    assert len(lines) == 20
    assert lines[-4:] == ["50%", "100%", "\ufffdbinary", "evil"]


def test_logs_events_and_messages_show_no_secret() -> None:
    bad = pod("p", container(terminated(1, message=f"died with {CANARY}")), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = f"STRIPE={CANARY}\n".encode()
    kubernetes.event(bad, "Unhealthy", f"Readiness probe failed: {CANARY}")
    run = failing(kubernetes, "Job", "migrate-1", f"it has {CANARY}")
    assert "[secret]" in run.causes[0].log[0]
    assert CANARY not in "\n".join(run.errors)
    assert CANARY not in json.dumps(run.causes[0].to_dict())


def test_without_the_secrets_no_log_is_shown() -> None:
    bad = pod("p", container(terminated(1, message="last words")), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = b"something\n"
    kubernetes.event(bad, "Unhealthy", "what the probe was answered")
    kubernetes.secrets_readable = False
    found = cause(kubernetes, "Job", "migrate-1")
    assert found.log == []
    assert any("cannot be read" in note for note in found.notes)
    assert "something" not in str(found)
    assert "last words" not in str(found)
    assert "the probe was answered" not in str(found)
    assert found.exit_code == 1


def test_a_line_of_megabytes_is_read_to_its_end() -> None:
    bad = pod("p", container(terminated(1)), phase="Failed")
    kubernetes = Kubernetes(job(), bad)
    kubernetes.logs["p", "app", False] = b"x" * 3_000_000 + CANARY.encode() + b"\nthe reason\n"
    began = time.monotonic()
    found = cause(kubernetes, "Job", "migrate-1")
    assert time.monotonic() - began < 5, "masking takes time in proportion to the line"
    assert found.log[-1] == "the reason"
    assert len(str(found)) < 2 * WIDTH


# -- while it runs -------------------------------------------------------------------------------------


def made_by_job(bad: Object) -> Object:
    owners = [{"kind": "Job", "name": "migrate-1", "uid": "uid-Job-migrate-1", "controller": True}]
    return {**bad, "metadata": {**bad["metadata"], "ownerReferences": owners}}


def watched(kubernetes: Kubernetes, said: list[str]) -> Run:
    """A run during which the cluster's news came in."""
    run = Run(exit_code=255, errors=["Job migrate-1: 4 errors occurred"])
    inputs = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate-1", "namespace": "shop"}}
    run.failed = [Failed("urn", "kubernetes:batch/v1:Job", inputs)]
    watch = FailureWatch(lambda: kubernetes, said.append, lambda: None)  # pyright: ignore[reportArgumentType]
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


def test_pods_of_something_else_and_pods_that_are_deleted_are_no_news() -> None:
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
    ("heard", "ends"),
    [
        ([("resourcePreEvent", "Deployment")], 1),
        ([("resourcePreEvent", "Deployment"), ("resOutputsEvent", "Service")], 1),
        ([("resourcePreEvent", "Deployment"), ("resOutputsEvent", "Deployment")], 0),
        ([("resourcePreEvent", "Service")], 0),
    ],
)
def test_only_a_rollout_that_the_engine_waits_for_ends_the_update(heard: list[tuple[str, str]], ends: int) -> None:
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(going), deployment(DEADLINE), awaited=False, heard=heard) == ends


def stops(*news: Object, skip: bool = False, awaited: bool = True, heard: Sequence[tuple[str, str]] = ()) -> int:
    """How often the update is ended by what a Deployment goes through."""
    ended: list[None] = []
    kubernetes = Kubernetes()
    kubernetes.news = [("MODIFIED", one) for one in news]
    watch = FailureWatch(lambda: kubernetes, lambda _: None, lambda: ended.append(None))  # pyright: ignore[reportArgumentType]
    annotations = {"pulumi.com/skipAwait": "true"} if skip else {}
    metadata = {"name": "backend", "namespace": "shop", "annotations": annotations}
    if awaited:
        watch.begins(
            "kubernetes:apps/v1:Deployment", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        )
    for what, kind in heard:
        watch(engine_event(what, kind))
    with kubernetes.watched_by(watch):
        return len(ended)


def test_an_update_is_ended_when_its_rollout_has_failed() -> None:
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(going), deployment(DEADLINE), deployment(DEADLINE)) == 1
    assert stops(deployment(going), deployment(going)) == 0
    assert stops(deployment(going), deployment(DEADLINE), skip=True) == 0
    assert stops(deployment(going), deployment(DEADLINE), awaited=False) == 0


def test_the_verdict_on_the_release_before_does_not_end_the_way_back() -> None:
    assert stops(deployment(DEADLINE), deployment(DEADLINE)) == 0
    later = {**DEADLINE, "lastUpdateTime": LATER}
    going = {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    assert stops(deployment(DEADLINE), deployment(going), deployment(later)) == 1


# -- where it is told ----------------------------------------------------------------------------------


def test_the_cause_is_the_gist_of_a_run_and_the_brief_of_an_error() -> None:
    found = Cause("Job m", "Job m failed: pod m-1, container m exited with code 1", log=["a", "b"])
    run = Run(errors=[str(found), "The engine: 4 errors"], causes=[found])
    assert run.gist == found.line
    error = Stuck(f"The rollback failed:\n{run.why}", run.causes)
    assert error.brief == f"The rollback failed: {found.line}"
    assert Stuck("No pods.\nmore").brief == "No pods."
