"""Automatic rollback: a real Alertmanager notifies the controller, whose stack has its state on S3."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster_stack import Stack
from tests.support.controlled_stack import COOLDOWN, ControlledStack, over, refresh, watched_stack
from tests.support.monitored_stack import eventually
from tests.support.secret_search import assert_secrets_stay_secret


@pytest.fixture(scope="module")
def watched(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlledStack]:
    with watched_stack("controller", images, tmp_path_factory.mktemp("controller")) as made:
        yield made


def test_two_alerts_at_once_and_a_flapping_one_are_one_rollback(
    watched: ControlledStack, images: dict[str, str]
) -> None:
    stack = watched.stack
    began = time.time()
    threads = [threading.Thread(target=watched.fire, args=(name,)) for name in ("RollbackErrorRate", "RollbackHealth")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    message = watched.receiver.wait("/critical", ":rewind:", since=began, seconds=240)
    eventually(lambda: watched.done("report") == 1, 180)
    assert watched.done("rollback") == 1
    newest = stack.history()[0]
    assert (newest["action"], newest["rollbackOf"], newest["result"]) == ("rollback", 2, "succeeded"), newest
    assert newest["image"] == images["shop:v1"]
    assert newest["who"].startswith("rollback-controller@")
    assert "automatic rollback: Rollback" in stack.run("pulumi", "stack", "history", "--stack", stack.name).check().out
    outcomes = [(one["kind"], one["result"]) for one in watched.incidents()]
    assert sorted(outcomes) == [("alert", "not rolled back"), ("rollback", "rollback")]
    assert "is a rollback already" in watched.receiver.wait("/critical", ":eyes:", since=began).text
    assert message.body["text"].count("revision") >= 2

    # The same again, as flapping alerts come: each is reported, and nothing changes.
    watched.fire("RollbackResponseTime")
    eventually(lambda: watched.done("report") == 2, 180)
    assert stack.history()[0]["revision"] == newest["revision"]


def test_the_post_mortem_has_release_alert_and_rollback_in_order(watched: ControlledStack) -> None:
    """Nothing is edited by hand: two commands of an operator, everything else from history and records."""
    stack = watched.stack
    stack.runbook("incident", "start", "--level", "1", "errors after a release").check()
    resolution = ("taken back", "--cause", "an index is missing", "--action", "test with production's rows=ada")
    done = stack.runbook("incident", "resolve", *resolution, "--json").check().json()
    timeline = done["postMortem"].partition("## Timeline")[2].partition("## Root cause")[0].splitlines()

    def place(*words: str) -> int:
        return next(at for at, line in enumerate(timeline) if all(word in line for word in words))

    order = [
        place("**update**", "deploy, revision 2, succeeded"),
        place("**record**", "Rollback"),
        place("**update**", "rollback, revision 3, succeeded, by rollback-controller@"),
        place("**log**", "start by"),
        place("**log**", "resolve by"),
    ]
    assert order == sorted(order), timeline
    assert "| test with production's rows | ada |" in done["postMortem"]


def test_forged_and_replayed_calls_are_refused_and_counted(watched: ControlledStack) -> None:
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


def test_no_other_pod_reaches_it(watched: ControlledStack) -> None:
    done = watched.stack.run(
        "kubectl", "--namespace", watched.stack.namespace, "exec", "deploy/backend", "--",
        "node", "-e", "fetch('http://rollback-controller:8080/healthz', {signal: AbortSignal.timeout(3000)})"
        ".then(() => process.exit(0), () => process.exit(7))",
    )  # fmt: skip
    assert done.code == 7, done.text


def test_killed_in_the_middle_it_is_finished_by_the_next_one(watched: ControlledStack, images: dict[str, str]) -> None:
    """After the cooldown: the engine is killed, which leaves its lock, and the pod is gone with it."""
    stack = watched.stack
    stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "again, for the test").check()
    eventually(lambda: over(stack), COOLDOWN + 30)
    pod, before = watched.pod(), stack.history()[0]["revision"]
    began = time.time()
    watched.fire("RollbackErrorRate-again")
    eventually(lambda: (watched.journal().get("doing") or {}).get("leaving") == before, 180)
    eventually(lambda: _applied(stack, images["shop:v1"]), 180)
    # Everything in it but its first process: the call ends with it.
    stack.run("kubectl", "--namespace", stack.namespace, "exec", pod, "--", "sh", "-c", "kill -9 -1")
    stack.kubectl("delete", pod, "--grace-period=0", "--force")
    watched.receiver.wait("/critical", "took revision", since=began, seconds=300)
    assert watched.pod() != pod
    newest = stack.history()[0]
    assert (newest["action"], newest["result"], newest["image"]) == ("rollback", "succeeded", images["shop:v1"])
    assert watched.journal()["doing"] is None
    assert stack.runbook("status", "--json").check().json()["pending"] == []


def test_an_attack_locks_down_without_a_rollback(watched: ControlledStack) -> None:
    stack, revision = watched.stack, watched.stack.history()[0]["revision"]
    began = time.time()
    watched.fire("SqlInjection", "lockdown")
    watched.receiver.wait("/critical", ":lock:", since=began, seconds=180)
    assert watched.done("lockdown") == 1
    newest = stack.history()[0]
    assert (newest["revision"], newest["result"]) == (revision, "succeeded")

    # What the controller did, this checkout does not know: it says so before it undoes it.
    refused = stack.runbook("security", "unlock", "--yes")
    assert refused.code == 2, refused.text
    assert f"revision {revision} (rollback) was released since" in refused.text
    assert "the last update was by rollback-controller@" in refused.text
    refresh(stack)
    assert stack.config["runbook:lockdown"]["reason"].startswith("alert SqlInjection")
    stack.runbook("security", "unlock", "--yes").check()
    assert stack.changes() == {}


def test_an_alert_during_a_rotation_waits_for_the_whole_command(
    watched: ControlledStack, images: dict[str, str]
) -> None:
    """The rotation is several updates: an update of the controller between two of them would be undone by the next."""
    stack = watched.stack

    def phase() -> str:
        return stack.config.get("runbook:rotated", {}).get("JWT_SECRET", {}).get("phase", "")

    refresh(stack)
    stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "again, for the test").check()
    eventually(lambda: over(stack), COOLDOWN + 30)
    began = time.time()
    rotation = stack.start("runbook", "rotate", "start", "JWT_SECRET", "--no-overlap", "--yes")
    eventually(lambda: phase() == "dual", 120)
    watched.fire("RollbackHealth-during-a-rotation")
    out, err = rotation.communicate(timeout=600)
    assert rotation.returncode == 0, out + err
    assert phase() == "retired"
    watched.receiver.wait("/critical", "took revision", since=began, seconds=300)
    refresh(stack)
    assert stack.release["image"] == images["shop:v1"]
    assert phase() == "retired"
    assert images["shop:v2"].endswith(tuple(item["digest"] for item in stack.config["runbook:quarantine"]))
    assert stack.changes() == {}


def test_a_loud_issue_command_is_repeated_nowhere(watched: ControlledStack, tmp_path: Path) -> None:
    """It prints the new key and fails. State, history, stack file, objects, events, logs, argument lists and
    notifications are searched for the key."""
    stack, canary = watched.stack, "sk_live_CANARY-of-a-loud-command"
    key = tmp_path / "key"
    key.write_text(f"{canary}\n")
    issue = {"issue": f"cat {key}; cat {key} >&2; exit 3", "revoke": "true"}
    refresh(stack)

    def configure(config: dict[str, Any]) -> None:
        policies = config.setdefault("runbook:rotation", {}).setdefault("secrets", {})
        policies["STRIPE_SECRET_KEY"] = issue

    stack.edit(configure)
    stack.printed.append(canary)
    failed = stack.runbook("rotate", "start", "STRIPE_SECRET_KEY", "--yes")
    assert failed.code == 1, failed.text
    assert "the issue command of STRIPE_SECRET_KEY failed" in failed.text
    assert stack.config["runbook:rotated"]["STRIPE_SECRET_KEY"]["phase"] == "failed"
    assert_secrets_stay_secret(stack, [message.text for message in watched.receiver.messages()])


def _applied(stack: Stack, image: str) -> bool:
    """Whether the engine has applied it: the checks are still to come."""
    found = json.loads(stack.kubectl("get", "deployment", "backend", "--output", "json"))
    return found["spec"]["template"]["spec"]["containers"][0]["image"] == image
