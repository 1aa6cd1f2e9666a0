"""Rotations that fail, are killed or replace everything at once, under customers who are logged in.

The real servers show what is revoked. Rotations of every kind without a fault are in test_production.py.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

from ops.stack.locks import EngineLock, all_abandoned, list_locks
from ops.stack.state_files import open_state_files
from sandbox.env import BACKEND
from sandbox.traffic import client_for
from tests.support.cluster_stack import Stack
from tests.support.customers import Customers, log_in, logged_in

BACKUPS = True
ROLLED_BACK = 1
KEYS = ("JWT_SECRET", "SESSION_SECRET", "INTERNAL_API_KEY")
SERVERS = ("DATABASE_URL", "REDIS_URL")
FAILING = "INTERNAL_API_KEY"
"""The one whose first rotation fails."""


def state(stack: Stack, name: str) -> dict[str, Any]:
    return stack.config.get("runbook:rotated", {}).get(name, {})


def secret(stack: Stack, name: str) -> str:
    """The value that the services' pods get."""
    template = json.loads(stack.kubectl("get", "deployment", "backend", "-o", "json"))["spec"]["template"]
    sources = template["spec"]["containers"][0]["envFrom"]
    (source,) = (item["secretRef"]["name"] for item in sources if "secretRef" in item)
    data = json.loads(stack.kubectl("get", "secret", source, "-o", "json"))["data"]
    return base64.b64decode(data[name]).decode()


def accepted(stack: Stack, dsn: str) -> bool:
    """Whether the real server accepts this DSN. Standard input passes the password."""
    parts = urlsplit(dsn)
    user, password = parts.username or "", parts.password or ""
    if parts.scheme == "redis":
        script = f'REDISCLI_AUTH="$(cat)" redis-cli --no-auth-warning --user {user} -h 127.0.0.1 ping | grep -q PONG'
        pod = "redis-0"
    else:
        script = f'PGPASSWORD="$(cat)" psql -w -h 127.0.0.1 -U {user} -d {parts.path[1:]} -tAc "select 1"'
        pod = "postgres-0"
    command = ["kubectl", "--namespace", stack.namespace, "exec", "-i", pod, "--", "sh", "-c", script]
    return stack.run(*command, stdin=password).code == 0


def rotate(stack: Stack, *words: str, stdin: str | None = None) -> None:
    stack.secret_values()  # those it replaces have to stay secret, too
    stack.run("runbook", "rotate", "start", *words, "--yes", stdin=stdin).check()


def store_keys(stack: Stack) -> dict[str, str]:
    """What the backups' pods log in to the store with."""
    data = json.loads(stack.kubectl("get", "secret", "backup-store", "-o", "json"))["data"]
    return {key.lower(): base64.b64decode(value).decode() for key, value in data.items()}


def store_accepts(keys: dict[str, str]) -> bool:
    store = boto3.client("s3", endpoint_url=os.environ["RUNBOOK_S3"], region_name="us-east-1", **keys)
    try:
        store.list_objects_v2(Bucket="backups", MaxKeys=1)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


def test_a_failed_verification_is_rolled_back(stack: Stack) -> None:
    """Before the others: the next rotation has to get over it."""

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
        failed = stack.runbook("rotate", "start", FAILING, "--yes")
        assert failed.code == ROLLED_BACK, failed.text
        assert secret(stack, FAILING) == used
    assert customers.failures == []
    assert state(stack, FAILING)["phase"] == "failed"
    assert stack.changes() == {}
    # A node brings a changed file to its pods a moment later.
    failed_series = f'runbook_secret_verification_failed{{secret="{FAILING}"}} 1'
    deadline = time.monotonic() + 180
    while failed_series not in metrics(stack):
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
    old = {name: secret(stack, name) for name in SERVERS}
    with Customers(stack.url) as customers:
        for phase in ("pending", "rolled-out", "retired"):
            kill_in(stack, phase)
            assert phase == "retired" or all(accepted(stack, each) for each in old.values()), phase
        rotate(stack, *SERVERS, "--no-overlap")
    assert customers.failures == []
    for name in SERVERS:
        now = state(stack, name)
        assert (now["phase"], now["period"], now["previous"]) == ("retired", 1, 0)
        assert not accepted(stack, old[name])
        assert accepted(stack, secret(stack, name))
    assert stack.changes() == {}


def kill_in(stack: Stack, phase: str) -> None:
    files = open_state_files(f"file://{BACKEND}")
    assert files is not None

    def locks() -> list[EngineLock]:
        return list_locks(files, f"locks/organization/runbook/{stack.name}")

    def is_updating() -> bool:
        return bool(found := locks()) and not all_abandoned(found, stack.file)

    run = stack.start("runbook", "rotate", "start", *SERVERS, "--yes", "--no-overlap")
    deadline = time.monotonic() + 180
    while not (state(stack, SERVERS[0]).get("phase") == phase and is_updating()):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    while (left := locks()) and not all_abandoned(left, stack.file):
        time.sleep(0.02)


def test_emergency(stack: Stack) -> None:
    old = {name: secret(stack, name) for name in (*KEYS, *SERVERS)}
    stack.secret_values()
    with Customers(stack.url) as customers:
        done = stack.runbook("rotate", "emergency", "--reason", "a laptop was stolen", "--yes", "--json").check().json()
        with client_for(stack.url) as client:
            assert not any(logged_in(client, token) for token in customers.tokens), "all customers are logged out"
            assert logged_in(client, log_in(client))
            key = client.get("/api/internal/orders", headers={"x-internal-key": old["INTERNAL_API_KEY"]})
            assert key.status_code == 401
    assert {*KEYS, *SERVERS} <= done["rotated"].keys()
    assert "STRIPE_SECRET_KEY" in done["left"], "only Stripe can issue one"
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
