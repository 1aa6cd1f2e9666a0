"""Lockdown (HerbisVeritas "Emergency Commands"): it really blocks, there is no way around it, and it really ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sandbox.traffic import Traffic, client_for
from tests.cluster.test_sandbox import IDLE, Namespace
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

BACKUPS = True
SECONDS = 30
SCHEDULED = {"backup", "restore-test"}


def asked(stack: Stack, method: str, path: str, **headers: str) -> httpx.Response:
    """The answer through the ingress."""
    with client_for(stack.url) as client:
        return client.request(method, path, headers=headers)


def suspended(stack: Stack) -> set[str]:
    found = json.loads(stack.kubectl("get", "cronjobs", "--output=json"))["items"]
    return {item["metadata"]["name"] for item in found if item["spec"]["suspend"]}


def locked(stack: Stack, *more: str) -> dict[str, Any]:
    words = ("security", "lockdown", "--reason", "a drill", "--yes", "--json", *more)
    return stack.runbook(*words).check().json()


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    """This machine as the ingress controller sees it: the gate answers with the address that it refuses."""
    locked(stack, "--for", "10m")
    refused = asked(stack, "GET", "/shop")
    assert refused.status_code == 503, refused.text
    return refused.json()["from"]


@pytest.fixture
def pretender(images: dict[str, str]) -> Iterator[Namespace]:
    """A pod that network policies take for the ingress controller; never ready, so that it gets no traffic."""
    made, name = Namespace("traefik", images["shop:v1"]), "pretender"
    pod = made.pod(name, IDLE, container={"readinessProbe": {"exec": {"command": ["false"]}}})
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "traefik"}
    made.apply(pod)
    try:
        eventually(lambda: made.answers(name))
        yield made
    finally:
        made.kubectl("delete", "pod", name, "--wait=false")


@pytest.fixture
def stranger(images: dict[str, str]) -> Iterator[Namespace]:
    made = Namespace("lockdown-stranger", images["shop:v1"])
    made.kubectl("delete", "namespace", made.name, "--ignore-not-found")  # what an interrupted run left
    made.kubectl("create", "namespace", made.name)
    try:
        made.apply(made.pod("stranger", IDLE))
        made.wait_ready("stranger")
        yield made
    finally:
        made.kubectl("delete", "namespace", made.name, "--wait=false")


def test_unknown_clients_are_refused(stack: Stack, address: str) -> None:
    answer = asked(stack, "GET", "/api/health")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "lockdown",
        "refused": "source",
        "from": address,
        "until": stack.config["runbook:lockdown"]["until"],
    }
    assert 0 < int(answer.headers["Retry-After"]) <= 600
    assert "Closed for a while" in asked(stack, "GET", "/shop", Accept="text/html").text
    for known in stack.config["runbook:lockdown"].get("allow", []):
        assert known not in answer.text
    forged = asked(stack, "GET", "/shop", **{"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1"})
    assert forged.json()["from"] == address, "the address that a client claims is ignored"


def test_no_job_starts_and_slack_is_notified(stack: Stack, address: str) -> None:
    assert suspended(stack) >= SCHEDULED
    status = stack.runbook("status", "--json").check().json()
    assert status["lockdown"]["state"] == "on"
    assert status["health"]["status"] is None, "the gate's answer is not the application's"
    assert stack.runbook("security", "status").code == 1
    record = json.loads(stack.kubectl("get", "configmaps", "--selector=runbook/incident=lockdown", "--output=json"))
    (one,) = [json.loads(item["data"]["record.json"]) for item in record["items"]]
    assert one["reason"] == "a drill"
    assert "closedAt" not in one
    assert stack.changes() == {}


def test_there_is_no_way_around_the_gate(stack: Stack, address: str, pretender: Namespace, stranger: Namespace) -> None:
    services = [f"{name}.{stack.namespace}" for name in ("backend", "lockdown")]
    pods = stack.kubectl(
        "get", "pods", "--selector=app.kubernetes.io/name=backend", "--output=jsonpath={.items[*].status.podIP}"
    )
    ports = {services[0]: 3000, services[1]: 8080, **dict.fromkeys(pods.split(), 3000)}
    # The way that is open proves that the others are not just broken.
    eventually(lambda: pretender.reaches("pretender", services[1], 8080))
    for host, port in ports.items():
        assert not stranger.reaches("stranger", host, port), f"{host}:{port}"
        if port != 8080:
            assert not pretender.reaches("pretender", host, port), f"{host}:{port}"
    inside = Namespace(stack.namespace, pretender.image)
    inside.apply(inside.pod("insider", IDLE))
    inside.wait_ready("insider")
    for host, port in ports.items():
        assert not inside.reaches("insider", host, port), f"{host}:{port}"
    inside.kubectl("delete", "pod", "insider", "--wait=false")


def test_who_is_known_reads_and_does_not_write(stack: Stack, address: str) -> None:
    locked(stack, "--for", "10m", "--allow", address)
    # A gate that terminates goes on answering, by the rules of before.
    gates = ("get", "pods", "--selector=app.kubernetes.io/name=lockdown", "--output=json")
    found = json.loads(stack.kubectl(*gates))["items"]
    assert [pod["metadata"]["name"] for pod in found if "deletionTimestamp" in pod["metadata"]] == []
    with Traffic(stack.url) as traffic:
        assert asked(stack, "GET", "/api/health").status_code == 200
        assert asked(stack, "HEAD", "/shop").status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert asked(stack, method, "/api/auth/login").json()["refused"] == "method", method
        for path in ("/admin", "/admin/orders", "/Admin", "/%61dmin"):
            assert asked(stack, "GET", path).json()["refused"] == "path", path
    assert traffic.failures == []
    assert stack.runbook("status", "--json").check().json()["health"]["status"] == 200
    assert (
        len(json.loads(stack.kubectl("get", "configmaps", "--selector=runbook/incident", "--output=json"))["items"])
        == 1
    )


def test_unlock_ends_it_without_a_failed_request(stack: Stack, address: str, pretender: Namespace) -> None:
    with Traffic(stack.url) as traffic:
        stack.runbook("security", "unlock", "--yes").check()
    assert traffic.failures == []
    assert asked(stack, "POST", "/api/auth/login").status_code in (400, 401, 415, 422)
    assert asked(stack, "GET", "/admin").status_code == 303
    # The ingress controller's own way, which was shut.
    eventually(lambda: pretender.reaches("pretender", f"backend.{stack.namespace}", 3000))
    assert not suspended(stack) & SCHEDULED
    assert "runbook:lockdown" not in stack.config
    assert stack.kubectl("get", "deployment,service,networkpolicy", "--selector=app.kubernetes.io/name=lockdown") == ""
    assert stack.changes() == {}
    assert stack.runbook("security", "status").code == 0
    assert [entry["action"] for entry in stack.history()[:2]] == ["lockdown", "lockdown"]


def test_it_ends_by_the_clock_without_a_command(stack: Stack, address: str) -> None:
    """Long enough that the lockdown is in place before its end."""
    stack.runbook("security", "unlock", "--yes").check()  # where there is none, that changes nothing
    with Traffic(stack.url) as traffic:
        done = locked(stack, "--for", f"{SECONDS}s", "--allow", address)
        until = datetime.fromisoformat(done["lockdown"]["until"])
        assert asked(stack, "POST", "/api/auth/login").json()["refused"] == "method"
        eventually(lambda: asked(stack, "POST", "/api/auth/login").status_code in (400, 401, 415, 422), SECONDS + 5)
    late = (datetime.now(UTC) - until).total_seconds()
    assert -1 < late < 5, late
    assert traffic.failures == [], "who is known notices neither its beginning nor its end"
    assert asked(stack, "GET", "/admin").status_code == 303
    assert suspended(stack) >= SCHEDULED
    status = stack.runbook("security", "status", "--json")
    assert (status.code, status.json()["state"]) == (1, "over")
    began = time.monotonic()
    stack.runbook("security", "unlock").check()
    assert time.monotonic() - began < 60
    assert not suspended(stack) & SCHEDULED
    record = json.loads(stack.kubectl("get", "configmap", done["incident"], "--output=jsonpath={.data.record\\.json}"))
    assert record["endedBy"] == "the clock"
    assert datetime.fromisoformat(record["closedAt"]) == until
