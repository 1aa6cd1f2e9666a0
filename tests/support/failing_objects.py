"""A cluster with failing objects, and the messages of an update on it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from ops.adapters.automation import Failed, Run
from ops.causes.cause import Cause
from ops.causes.watch import FailureWatch

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
        fields = {"reason": reason, "message": message, "type": kind, "lastTimestamp": at, "count": 3}
        self.events.append({"involvedObject": {"uid": uid}, **fields})

    @contextmanager
    def http(self) -> Iterator[httpx.Client]:
        with httpx.Client(transport=httpx.MockTransport(self._answer), base_url="http://kubernetes") as http:
            yield http

    def watch_changes(self, path: str, _seconds: float) -> Iterator[tuple[str, Object]]:
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
    FailureWatch(lambda: kubernetes, lambda _: None, lambda: None, 120).explain(run)
    return run


def cause(kubernetes: Any, kind: str, name: str, words: str = "2 errors occurred") -> Cause:
    run = failing(kubernetes, kind, name, words)
    assert len(run.causes) == 1, run.errors
    assert run.errors[-1] == f"The engine: {kind} {name}: {words}", "its own words stay"
    return run.causes[0]
