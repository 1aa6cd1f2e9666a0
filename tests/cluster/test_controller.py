"""The rollback nobody types: a real Alertmanager tells the controller, whose stack has its state on S3."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.images import base_layout, controller
from settings.monitoring import STATE_ACCESS_KEY, STATE_PASSPHRASE, STATE_SECRET_KEY
from tests.cluster.bucket import Bucket, bucket
from tests.cluster.monitored import eventually, watch
from tests.cluster.receiver import Receiver, receiver
from tests.cluster.stack import Stack

_POD = "app.kubernetes.io/name=rollback-controller"
_COOLDOWN = 60


@dataclass(frozen=True)
class Watched:
    """A stack that its controller looks after."""

    stack: Stack
    told: Receiver

    def fire(self, name: str, action: str = "rollback") -> None:
        """An alert in the stack's own Alertmanager."""
        labels = [name, f"action={action}", f"namespace={self.stack.namespace}", "severity=critical"]
        labels += ["channel=critical", f"about={name}"]
        add = ["amtool", "alert", "add", *labels, "--annotation=summary=made by a test"]
        self.stack.kubectl("exec", "alertmanager-0", "--", *add, "--alertmanager.url=http://localhost:9093")

    def count(self, series: str) -> int:
        where = f"/api/v1/namespaces/{self.stack.namespace}/services/rollback-controller:8080/proxy/metrics"
        lines = self.stack.kubectl("get", "--raw", where).splitlines()
        return next(int(float(line.split()[-1])) for line in lines if line.startswith(f"runbook_controller_{series}"))

    def done(self, action: str) -> int:
        return self.count(f'actions_total{{action="{action}"}}')

    def journal(self) -> dict[str, Any]:
        found = json.loads(self.stack.kubectl("get", "configmap", "rollback-controller", "--output", "json"))
        return {key: json.loads(value) for key, value in (found.get("data") or {}).items()}

    def pod(self) -> str:
        return self.stack.kubectl("get", "pods", "--selector", _POD, "--output", "name").strip()

    def incidents(self) -> list[dict[str, Any]]:
        found = json.loads(
            self.stack.kubectl("get", "configmaps", "--selector", "runbook/incident", "--output", "json")
        )["items"]
        return [json.loads(item["data"]["record.json"]) for item in found]

    def post(self, body: Any, token: str) -> int:
        """What the webhook answers; asked in the controller's own pod, so that no network policy stands between."""
        script = (
            "import sys, urllib.request, urllib.error\n"
            "request = urllib.request.Request('http://localhost:8080/alerts', data=sys.stdin.read().encode(),"
            " headers={'Authorization': 'Bearer ' + sys.argv[1]})\n"
            "try: print(urllib.request.urlopen(request).status)\n"
            "except urllib.error.HTTPError as error: print(error.code)\n"
        )
        argv = ["exec", "--stdin", self.pod(), "--", "python3", "-c", script, token]
        words = ["kubectl", "--namespace", self.stack.namespace, *argv]
        return int(self.stack.run(*words, stdin=json.dumps(body)).check().out)


@pytest.fixture(scope="module")
def state(images: dict[str, str]) -> Iterator[Bucket]:
    if "RUNBOOK_S3" not in os.environ:
        pytest.skip("this sandbox has no S3 server: the cluster is not its own")
    with bucket("controller") as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def watched(
    images: dict[str, str], monitoring_image: str, state: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    image = controller.pushed(images["tasks"].partition("/")[0], base_layout())
    made = Stack.create("controller", tmp_path_factory.mktemp("controller"), backups=False)
    with receiver("controller", images["tasks"]) as told:
        try:
            _look_after(made, told, monitoring_image, image, state)
            made.runbook("deploy", images["shop:v1"], "--yes").check()
            made.runbook("deploy", images["shop:v2"], "--yes").check()
            yield Watched(made, told)
        finally:
            made.remove()


def _look_after(stack: Stack, told: Receiver, monitoring_image: str, image: str, state: Bucket) -> None:
    words = ("get", "endpointslices", "--namespace", "default", "--selector", "kubernetes.io/service-name=kubernetes")
    (slice_,) = json.loads(stack.run("kubectl", *words, "--output", "json").check().out)["items"]
    (address,), port = slice_["endpoints"][0]["addresses"], slice_["ports"][0]["port"]
    rollback = {
        "image": image,
        "state": state.state,
        "apiServer": [{"cidr": f"{address}/32", "ports": [port]}],
        "limitSeconds": _COOLDOWN,
        "cooldownSeconds": _COOLDOWN,
        "releaseWindowSeconds": 3600,
    }
    watch(stack, told, monitoring_image, rollback=rollback)
    passphrase = Path(stack.environment()["PULUMI_CONFIG_PASSPHRASE_FILE"]).read_text().strip()
    secrets = {
        STATE_ACCESS_KEY: state.access_key,
        STATE_SECRET_KEY: state.secret_key,
        STATE_PASSPHRASE: passphrase,
    }
    words = [word for name, value in secrets.items() for word in ("--secret", f"secrets:{name}={value}")]
    stack.run("pulumi", "config", "set-all", "--stack", stack.name, *words).check()


def test_two_alerts_at_once_and_a_flapping_one_are_one_rollback(watched: Watched, images: dict[str, str]) -> None:
    stack = watched.stack
    began = time.time()
    threads = [threading.Thread(target=watched.fire, args=(name,)) for name in ("RollbackErrorRate", "RollbackHealth")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = watched.told.wait("/critical", ":rewind:", since=began, seconds=120)
    eventually(lambda: watched.done("tell") == 1, 30)
    assert watched.done("rollback") == 1
    newest = stack.history()[0]
    assert (newest["action"], newest["rollbackOf"], newest["result"]) == ("rollback", 2, "succeeded"), newest
    assert newest["image"] == images["shop:v1"]
    assert newest["who"].startswith("rollback-controller@")
    assert "automatic rollback: Rollback" in stack.run("pulumi", "stack", "history", "--stack", stack.name).check().out
    outcomes = [(one["kind"], one["result"]) for one in watched.incidents()]
    assert sorted(outcomes) == [("alert", "not rolled back"), ("rollback", "rollback")]
    assert "is a rollback already" in watched.told.wait("/critical", ":eyes:", since=began).text
    assert told.body["text"].count("revision") >= 2

    # The same again, as flapping alerts come: each is told, and nothing moves.
    watched.fire("RollbackResponseTime")
    eventually(lambda: watched.done("tell") == 2, 30)
    assert stack.history()[0]["revision"] == newest["revision"]


def test_forged_and_replayed_calls_are_refused_and_counted(watched: Watched) -> None:
    read = ["get", "secret", "rollback-controller-token", "--output", "jsonpath={.data.token}"]
    token = base64.b64decode(watched.stack.kubectl(*read)).decode()
    key = next(key for key, outcome in watched.journal()["handled"].items() if outcome == "rollback")
    fingerprint, began = key.split("@")
    handled = {"alerts": [{"status": "firing", "fingerprint": fingerprint, "startsAt": f"{began}Z"}]}
    forged = {"alerts": [{"status": "firing", "fingerprint": "0" * 16, "startsAt": "2026-01-01T00:00:00Z"}]}
    assert watched.post(forged, "guessed") == 401
    assert watched.post(forged, token) == 403
    before = watched.count('alerts_total{outcome="repeated"}')
    assert watched.post(handled, token) == 200
    assert watched.count('alerts_total{outcome="repeated"}') == before + 1
    assert watched.count('refused_total{reason="unauthorized"}') == 1
    assert watched.count('refused_total{reason="not-firing"}') == 1
    assert watched.done("rollback") == 1


def test_nobody_else_reaches_it(watched: Watched) -> None:
    done = watched.stack.run(
        "kubectl", "--namespace", watched.stack.namespace, "exec", "deploy/backend", "--",
        "node", "-e", "fetch('http://rollback-controller:8080/healthz', {signal: AbortSignal.timeout(3000)})"
        ".then(() => process.exit(0), () => process.exit(7))",
    )  # fmt: skip
    assert done.code == 7, done.text


def test_killed_in_the_middle_it_is_finished_by_the_next_one(watched: Watched, images: dict[str, str]) -> None:
    """After the cooldown: the engine is killed, which leaves its lock, and the pod is gone with it."""
    stack = watched.stack
    stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "again, for the test").check()
    eventually(lambda: _over(stack), _COOLDOWN + 30)
    pod, before = watched.pod(), stack.history()[0]["revision"]
    began = time.time()
    watched.fire("RollbackErrorRate-again")
    eventually(lambda: (watched.journal().get("doing") or {}).get("leaving") == before, 60)
    eventually(lambda: _told_of(stack, images["shop:v1"]), 60)
    # Everything in it but its first process: the call ends with it.
    stack.run("kubectl", "--namespace", stack.namespace, "exec", pod, "--", "sh", "-c", "kill -9 -1")
    stack.kubectl("delete", pod, "--grace-period=0", "--force")
    watched.told.wait("/critical", "took revision", since=began, seconds=150)
    assert watched.pod() != pod
    newest = stack.history()[0]
    assert (newest["action"], newest["result"], newest["image"]) == ("rollback", "succeeded", images["shop:v1"])
    assert watched.journal()["doing"] is None
    assert stack.runbook("status", "--json").check().json()["pending"] == []


def test_an_attack_locks_down_and_takes_nothing_back(watched: Watched) -> None:
    stack, revision = watched.stack, watched.stack.history()[0]["revision"]
    began = time.time()
    watched.fire("SqlInjection", "lockdown")
    watched.told.wait("/critical", ":lock:", since=began, seconds=90)
    assert watched.done("lockdown") == 1
    newest = stack.history()[0]
    assert (newest["revision"], newest["result"]) == (revision, "succeeded")

    # What the controller did, this checkout does not know: it says so before it undoes it.
    refused = stack.runbook("security", "unlock", "--yes")
    assert refused.code == 2, refused.text
    assert f"revision {revision} (rollback) was released since, and rollback-controller@" in refused.text
    fresh = ("pulumi", "config", "refresh", "--force", "--stack", stack.name, "--config-file", str(stack.file))
    stack.run(*fresh, config_file=False).check()
    assert stack.config["runbook:lockdown"]["reason"].startswith("alert SqlInjection")
    stack.runbook("security", "unlock", "--yes").check()
    assert stack.changes() == {}


def _over(stack: Stack) -> bool:
    """Whether the cooldown is, by the history's own clock."""
    last = next(entry for entry in stack.history() if entry["action"] == "rollback")
    since = datetime.now(UTC) - datetime.fromisoformat(last["when"])
    return since.total_seconds() > _COOLDOWN + (last["seconds"] or 0) + 2


def _told_of(stack: Stack, image: str) -> bool:
    """Whether the engine has told the cluster of it: the checks are still to come."""
    found = json.loads(stack.kubectl("get", "deployment", "backend", "--output", "json"))
    return found["spec"]["template"]["spec"]["containers"][0]["image"] == image
