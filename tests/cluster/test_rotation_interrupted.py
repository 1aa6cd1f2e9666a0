"""Rotations that fail or are killed, and an emergency: the real servers refuse the old values afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from ops.stack.locks import all_abandoned, list_locks
from sandbox.paths import STATE
from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.customers import Customers, log_in, logged_in
from tests.support.rotated_stack import KEYS, SERVERS, accepted, rotate, secret, state

BACKUPS = True  # their exporter says whether a verification failed
ROLLED_BACK = 1
FAILING = "INTERNAL_API_KEY"
"""The one whose first rotation fails."""


def test_a_failed_verification_goes_back(stack: Stack) -> None:
    """First: the next rotation of this secret, in the test after it, has to succeed."""

    def verify(command: str | None) -> None:
        override = {FAILING: {"verify": {"run": command, "timeoutSeconds": 30}}} if command else {}

        def change(config: dict[str, Any]) -> None:
            secrets = config["runbook:rotation"]["secrets"]
            secrets.pop(FAILING, None)
            secrets.update(override)

        stack.edit(change)

    used = secret(stack, FAILING)
    verify("node -e process.exit(1)")
    with Customers(stack.url) as customers:
        failed = stack.runbook("rotate", FAILING, "--yes")
        assert failed.code == ROLLED_BACK, failed.text
        assert secret(stack, FAILING) == used
    assert customers.failures == []
    assert state(stack, FAILING)["phase"] == "failed"
    assert stack.changes() == {}
    # A node brings a changed file to its pods a moment later.
    told = f'runbook_secret_verification_failed{{secret="{FAILING}"}} 1'
    deadline = time.monotonic() + 180
    while told not in metrics(stack):
        assert time.monotonic() < deadline
        time.sleep(1)
    verify(None)


def metrics(stack: Stack) -> str:
    exporter = json.loads(stack.kubectl("get", "pods", "-l", "app.kubernetes.io/name=backup-exporter", "-o", "json"))
    pod = next(item for item in exporter["items"] if "deletionTimestamp" not in item["metadata"])
    port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    ask = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
    return stack.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", ask)


def test_killed_at_each_step(stack: Stack) -> None:
    """Each run goes on where the one before was killed, and is killed at the next step that touches the cluster."""
    period, old = state(stack, "DATABASE_URL").get("period", 0), secret(stack, "DATABASE_URL")
    with Customers(stack.url) as customers:
        for phase in ("pending", "rolled-out", "retired"):
            kill_in(stack, phase, period + 1)
        rotate(stack, "DATABASE_URL", FAILING, "--no-overlap")
    assert customers.failures == []
    assert state(stack, FAILING)["phase"] == "retired"
    now = state(stack, "DATABASE_URL")
    assert (now["phase"], now["period"], now["previous"]) == ("retired", period + 1, period)
    assert not accepted(stack, old)
    assert accepted(stack, secret(stack, "DATABASE_URL"))
    assert stack.changes() == {}


def kill_in(stack: Stack, phase: str, period: int) -> None:
    locks = STATE / "backend/.pulumi/locks/organization/runbook" / stack.name
    run = stack.start("runbook", "rotate", "DATABASE_URL", "--yes", "--no-overlap")
    deadline = time.monotonic() + 180
    wanted = {"phase": phase, "period": period}
    while (
        not wanted.items() <= state(stack, "DATABASE_URL").items()
        or all_abandoned(list_locks(locks))
        or not list_locks(locks)
    ):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    while (left := list_locks(locks)) and not all_abandoned(left):
        time.sleep(0.02)


def test_emergency(stack: Stack) -> None:
    old = {name: secret(stack, name) for name in (*KEYS, *SERVERS)}
    stack.secret_values()
    with Customers(stack.url) as customers:
        done = (
            stack.runbook("rotate", "--emergency", "--reason", "a laptop was stolen", "--yes", "--json").check().json()
        )
        with client_for(stack.url) as client:
            assert not any(logged_in(client, token) for token in customers.tokens), "everybody is logged out"
            assert logged_in(client, log_in(client))
            key = client.get("/api/internal/orders", headers={"x-internal-key": old["INTERNAL_API_KEY"]})
            assert key.status_code == 401
    assert {*KEYS, *SERVERS} <= done["rotated"].keys()
    assert "STRIPE_SECRET_KEY" in done["left"], "nobody here can make one"
    assert done["sessionsEnded"] > 0
    assert set(done["old"]["database"].values()) == set(done["old"]["redis"].values()) == {"refused"}
    for name in SERVERS:
        assert not accepted(stack, old[name])
        assert accepted(stack, secret(stack, name))
    for name in KEYS:
        assert secret(stack, name) != old[name]
    record = json.loads(
        json.loads(stack.kubectl("get", "configmap", done["incident"], "-o", "json"))["data"]["record.json"]
    )
    assert (record["reason"], record["result"]) == ("a laptop was stolen", "succeeded")
    assert done["incident"] in stack.kubectl("get", "events", "-o", "name") or "IncidentOpened" in stack.kubectl(
        "get", "events"
    )
    assert stack.changes() == {}
