"""Lease and journal of the controller, on an API server's double."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import httpx
import pytest
from lightkube import Client, KubeConfig
from lightkube.config.models import Cluster, User

from ops.controller import lease as lease_module
from ops.controller.journal import Doing, Journal
from ops.controller.lease import LeaderLease
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
            meta = sent["metadata"]
            return self._keep(f"{path}/{meta.get('name') or meta['generateName'] + str(len(self.objects))}", sent)
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


def stopped(held: LeaderLease | None) -> None:
    """As if its process were gone."""
    assert held
    held._stop.set()
    held._thread.join()


@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_a_lease_that_is_not_renewed_is_taken_whatever_the_other_node_s_clock_says(
    api: Api, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    monkeypatch.setattr(lease_module, "_RETRY_SECONDS", 0.05)
    stopped(taken(api, "killed"))
    api.lease["leaseDurationSeconds"] = 1
    renewed = datetime.now(UTC) + timedelta(seconds=skew)
    api.lease["renewTime"] = renewed.isoformat().replace("+00:00", "Z")
    waiting, stopping = LeaderLease(api.client(), "next"), threading.Event()
    began = time.monotonic()
    threading.Timer(5, stopping.set).start()
    assert waiting.acquire(stopping)
    assert 1 <= time.monotonic() - began < 3, "as long as the lease was not seen to change"
    waiting.release()


def test_a_lease_whose_renewals_change_is_not_taken_by_a_node_whose_clock_is_ahead(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_RETRY_SECONDS", 0.05)
    stopped(taken(api, "one"))
    api.lease["leaseDurationSeconds"] = 1
    waiting, stopping = LeaderLease(api.client(), "ahead"), threading.Event()

    def renew() -> None:
        for turn in range(15):
            stopping.wait(0.1)
            behind = datetime.now(UTC) - timedelta(hours=1, seconds=-turn)
            api.lease["renewTime"] = behind.isoformat().replace("+00:00", "Z")
        stopping.set()

    threading.Thread(target=renew).start()
    assert not waiting.acquire(stopping)
    assert api.lease["holderIdentity"] == "one"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_holder_that_sees_another_holder_stops_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_RENEW_SECONDS", 0.05)
    held, ended = taken(api, "one"), threading.Event()
    assert held

    def leave(_: int) -> NoReturn:
        ended.set()
        raise SystemExit

    monkeypatch.setattr(lease_module.os, "_exit", leave)
    spec = {**api.lease, "holderIdentity": "two"}
    # Even one whose renewal is long ago: the holder must not take it back.
    spec["renewTime"] = "2020-01-01T00:00:00.000001Z"
    api.lease.update(spec)
    assert ended.wait(2)
    held._thread.join()
    assert held.alive, "it had not waited for its own renewals to be too old"
    assert api.lease["holderIdentity"] == "two"


def test_a_restarted_container_goes_on_at_once(api: Api) -> None:
    first = taken(api, "pod")
    assert first
    first._stop.set()
    second = taken(api, "pod")
    assert second
    second.release()


def test_a_holder_that_cannot_renew_it_stops_before_it_is_free(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease_module._STOP_SECONDS + lease_module._RENEW_SECONDS < lease_module.SECONDS
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
    third.end("reported", "reported")
    assert third.rolled_back() == ["key"]
    third.forget(["key"])
    fourth = Journal(api.client())
    fourth.load()
    assert (fourth.handled("key"), fourth.handled("reported")) == (False, True)
    third.end("key", "rollback")
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
    worker = Worker(unused, pods, unused, unused, unused, unused)
    lock = EngineLock(user, host, 99, "2026-11-22T12:00:00")
    assert worker._gone([lock]) == gone
    assert not worker._gone([])
    assert not worker._gone([lock, EngineLock("alice", "laptop", 1, "")])
