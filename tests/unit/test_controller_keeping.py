"""Lease and journal of the controller, on an API server's double."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from lightkube import Client, KubeConfig
from lightkube.config.models import Cluster, User

from ops.controller import lease as lease_module
from ops.controller.journal import Doing, Journal
from ops.controller.lease import SECONDS, LeaderLease
from ops.controller.worker import Worker
from ops.stack.locks import EngineLock


class Api:
    """Objects by path, each with a version that a writer has to have read."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.away = False

    def client(self) -> Client:
        config = KubeConfig.from_one(cluster=Cluster(server="http://api"), user=User(token="t"), namespace="shop")
        return Client(config=config, transport=httpx.MockTransport(self._answer))

    def __deepcopy__(self, _: object) -> Api:
        """The client copies its parameters; this is one place all the same."""
        return self

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away")
        path, sent = request.url.path, json.loads(request.content or b"{}")
        if request.method == "POST":
            return self._keep(f"{path}/{sent['metadata']['name']}", sent)
        found = self.objects.get(path)
        if found is None:
            return self._refused(404)
        if request.method == "PUT":
            if sent["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                return self._refused(409)
            return self._keep(path, sent)
        if request.method == "PATCH":
            return self._keep(path, {**found, "data": {**found.get("data", {}), **sent["data"]}})
        return httpx.Response(200, json=found)

    def _keep(self, path: str, content: dict[str, Any]) -> httpx.Response:
        version = int(self.objects.get(path, content)["metadata"].get("resourceVersion", 0)) + 1
        self.objects[path] = {**content, "metadata": {**content["metadata"], "resourceVersion": str(version)}}
        return httpx.Response(200, json=self.objects[path])

    def _refused(self, code: int) -> httpx.Response:
        return httpx.Response(code, json={"kind": "Status", "code": code, "message": "no", "reason": "No"})

    @property
    def lease(self) -> dict[str, Any]:
        return self.objects["/apis/coordination.k8s.io/v1/namespaces/shop/leases/rollback-controller"]["spec"]


@pytest.fixture
def api() -> Api:
    return Api()


def taken(api: Api, who: str) -> LeaderLease | None:
    held, stopping = LeaderLease(api.client(), who), threading.Event()
    threading.Timer(0.3, stopping.set).start()
    return held if held.acquire(stopping) else None


def test_one_holder_at_a_time(api: Api) -> None:
    first = taken(api, "one")
    assert first
    assert first.alive
    assert taken(api, "two") is None
    first.release()
    second = taken(api, "two")
    assert second
    assert (api.lease["holderIdentity"], api.lease["leaseTransitions"]) == ("two", 1)
    first.release()
    assert api.lease["holderIdentity"] == "two", "a former holder cannot release the next one's lease"
    second.release()


@pytest.mark.parametrize(("age", "had"), [(SECONDS - 2, False), (SECONDS + 1, True)])
def test_a_lease_that_is_not_renewed_is_taken(api: Api, age: float, had: bool) -> None:
    first = taken(api, "killed")
    assert first
    first._stop.set()  # as if its process were gone
    first._thread.join()
    renewed = datetime.now(UTC) - timedelta(seconds=age)
    api.lease["renewTime"] = renewed.isoformat().replace("+00:00", "Z")
    second = taken(api, "next")
    assert bool(second) == had
    if second:
        second.release()


def test_a_restarted_container_goes_on_at_once(api: Api) -> None:
    first = taken(api, "pod")
    assert first
    first._stop.set()
    second = taken(api, "pod")
    assert second
    second.release()


def test_a_holder_that_cannot_renew_it_stops_before_it_is_free(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease_module._STOP_SECONDS + lease_module._RENEW_SECONDS < SECONDS
    monkeypatch.setattr(lease_module, "_STOP_SECONDS", 0.2)
    monkeypatch.setattr(lease_module, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease_module, "_RETRY_SECONDS", 0.05)
    ended = threading.Event()

    held = taken(api, "one")
    assert held

    def leave(_: int) -> None:
        ended.set()
        held._stop.set()

    monkeypatch.setattr(lease_module.os, "_exit", leave)
    assert not ended.wait(0.3), "it is renewed"
    api.away = True
    assert ended.wait(2)


def test_what_is_begun_and_done_is_found_by_the_next(api: Api) -> None:
    journal = Journal(api.client())
    journal.load()
    doing = Doing({"fingerprint": "f"}, 7, 6, "incident-rollback-x")
    journal.begin(doing)
    second = Journal(api.client())
    second.load()
    assert second.doing == doing
    second.end("key", "rollback")
    third = Journal(api.client())
    third.load()
    assert third.doing is None
    assert third.handled("key")
    assert not third.handled("other")
    for number in range(300):
        third.end(f"key-{number}", "rollback")
    assert not third.handled("key"), "not for ever"
    assert third.handled("key-299")


class Pods:
    """A cluster in which these pods exist."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find(self, kind: Any, name: str) -> str | None:
        return name if name in self._names else None


@pytest.mark.parametrize(
    ("user", "host", "gone"),
    [
        ("rollback-controller", "rollback-controller-1-abcde", True),
        ("rollback-controller", "rollback-controller-1-lives", False),
        ("rollback-controller", "laptop", False),
        ("alice", "rollback-controller-1-abcde", False),
    ],
)
def test_only_the_lock_of_a_controller_that_is_gone_is_broken(user: str, host: str, gone: bool) -> None:
    unused: Any = None
    pods: Any = Pods("rollback-controller-1-lives")
    worker = Worker("shop", unused, pods, unused, unused, unused)
    lock = EngineLock(user, host, 99, "2026-11-22T12:00:00")
    assert worker._gone([lock]) == gone
    assert not worker._gone([])
    assert not worker._gone([lock, EngineLock("alice", "laptop", 1, "")])
