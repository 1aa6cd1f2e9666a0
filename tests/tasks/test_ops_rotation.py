"""`runbook rotate` on a real engine: killed at every step and run again, failing, waiting, finishing.

The program is a small one, which makes the slots of secrets from random providers; the servers' part is in
tests/cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.commands import emergency
from ops.commands import rotate as rotating
from ops.errors import Interrupted, Refused, RolledBack
from ops.stack.history import RELEASE, Entry
from ops.stack.locks import all_abandoned
from ops.stack.session import Session
from tests.support.stack_session import (
    POLICY,
    ROOT,
    FakeCluster,
    change_elsewhere,
    create_session,
    needs_engine,
    preview_changes,
    pulumi,
    read_config,
)

PROGRAM = """
import json, os, time
import pulumi
import pulumi_random as random

if os.environ.get("TEST_RAISES"):
    raise Exception("the program ends before it registers anything")
rotated = pulumi.Config("runbook").get_object("rotated") or {}
secrets = pulumi.Config("secrets")
after = [random.RandomId("status", byte_length=4, keepers={"rotated": json.dumps(rotated)}).hex]
for name in ("JWT_SECRET", "SESSION_SECRET"):
    state = rotated.get(name, {"period": 0, "phase": "retired"})
    for period in {state["period"], state.get("previous", state["period"])}:
        slot = "ab"[period % 2]
        made = random.RandomId(f"{name}-{slot}", byte_length=4, keepers={"period": str(period)})
        after.append(made.hex)
        pulumi.export(f"{name}-{period}", made.hex)

def then(_):
    for name, state in rotated.items():
        if f"{name} {state['phase']}" == os.environ.get("TEST_FAILS"):
            raise Exception("the check failed")
        if f"{name} {state['phase']}" == os.environ.get("TEST_HANGS"):
            time.sleep(120)

pulumi.Output.all(*after).apply(then)
"""
SCRIPT = """
import sys
from pathlib import Path
from ops.commands import rotate
from ops.stack import session
from tests.support.stack_session import POLICY, FakeCluster, change_elsewhere

file = Path(sys.argv[1])
session.Session.cluster = lambda self, *_: FakeCluster(file)
opened = session.open_session(file.parent, "dev")
rotate.rotate(opened, ["JWT_SECRET"], POLICY, dict, overlap=False)
"""
RELEASED = {
    "revision": 1,
    "image": "registry.example.com/shop@sha256:" + "1" * 64,
    "git": "aaaa111",
    "schema": {"min": 1, "max": 1, "level": 1},
}

pytestmark = needs_engine


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A stack that was released."""
    opened = create_session(tmp_path, monkeypatch, PROGRAM, {RELEASE: RELEASED}, updated=True)
    monkeypatch.setattr(FakeCluster, "level", 1)
    return opened


def go(session: Session, *names: str, overlap: bool = True, **values: str) -> dict[str, Any]:
    return rotating.rotate(
        session, names, POLICY, lambda each: {key: values[key] for key in each.secret_names}, overlap=overlap
    )


def state(session: Session, name: str = "JWT_SECRET") -> dict[str, Any]:
    return read_config(session).get("runbook:rotated", {}).get(name, {})


def values(session: Session) -> set[str]:
    """The secret values that the program has, by name and period."""
    listed = pulumi(session.reader.folder, "stack", "output", "--json", "--stack", session.stack)
    return set(yaml.safe_load(listed))


def test_a_rotation_waits_for_its_overlap_and_is_finished(session: Session) -> None:
    go(session, "JWT_SECRET")
    assert (state(session)["phase"], state(session)["period"], state(session)["previous"]) == ("verified", 1, 0)
    assert {"JWT_SECRET-0", "JWT_SECRET-1"} < values(session)
    assert preview_changes(session) == {}

    with pytest.raises(Refused, match=r"its previous value is accepted until .*--no-overlap"):
        go(session, "JWT_SECRET")

    go(session, "JWT_SECRET", overlap=False)
    assert state(session)["phase"] == "retired"
    assert preview_changes(session) == {}
    actions = [(entry.action, entry.message.split(" by ")[0]) for entry in session.history()][:5]
    assert actions == [
        ("rotate", f"rotate JWT_SECRET to {phase}")
        for phase in ("retired", "verified", "rolled-out", "dual", "pending")
    ]


def test_an_overlap_that_is_over_ends_before_the_next_rotation_begins(session: Session) -> None:
    go(session, "JWT_SECRET")
    document = yaml.safe_load(session.file.read_text())
    document["config"]["runbook:rotation"] = {"secrets": {"JWT_SECRET": {"overlapSeconds": 0}}}
    session.file.write_text(yaml.safe_dump(document, sort_keys=False))
    go(session, "JWT_SECRET")
    assert (state(session)["phase"], state(session)["period"], state(session)["previous"]) == ("retired", 2, 1)


def test_a_failed_check_goes_back_to_the_previous_value(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FAILS", "JWT_SECRET rolled-out")
    with pytest.raises(RolledBack, match="JWT_SECRET could not be rotated; the previous value is in use"):
        go(session, "JWT_SECRET")
    assert (state(session)["phase"], state(session)["previous"]) == ("failed", 0)
    assert state(session)["failure"] == "the program failed", "what it said may contain a secret"
    assert preview_changes(session) == {}

    monkeypatch.delenv("TEST_FAILS")
    go(session, "JWT_SECRET", overlap=False)
    # Slot b was filled and never used: the next value goes there too, under another number.
    assert (state(session)["phase"], state(session)["period"], state(session)["previous"]) == ("retired", 3, 0)
    assert "failure" not in state(session)


def test_what_cannot_be_retired_stays_accepted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_FAILS", "JWT_SECRET retired")
    with pytest.raises(RolledBack, match="could not be retired; both are valid"):
        go(session, "JWT_SECRET", overlap=False)
    assert state(session)["phase"] == "verified"
    assert preview_changes(session) == {}
    monkeypatch.delenv("TEST_FAILS")
    go(session, "JWT_SECRET", overlap=False)
    assert (state(session)["phase"], state(session)["period"]) == ("retired", 1)


def test_killed_at_every_step_and_run_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for phase in ("pending", "dual", "rolled-out", "verified", "retired"):
        monkeypatch.setenv("TEST_HANGS", f"JWT_SECRET {phase}")
        kill_in(session, phase)
        assert state(session)["phase"] == phase
    monkeypatch.delenv("TEST_HANGS")
    again = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(session.file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (state(session)["phase"], state(session)["period"], state(session)["previous"]) == ("retired", 1, 0)
    assert preview_changes(session) == {}


def is_updating(session: Session) -> bool:
    return bool(found := session.locks()) and not all_abandoned(found, session.file)


def kill_in(session: Session, phase: str) -> None:
    """Run the command, which goes on where it was killed before, and kill it in this phase together with its engine."""
    command = [sys.executable, "-c", SCRIPT, str(session.file)]
    deadline = time.monotonic() + 120
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as process:
        while state(session).get("phase") != phase or not is_updating(session):
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    while is_updating(session):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_value_from_outside(session: Session) -> None:
    key = "secrets:STRIPE_WEBHOOK_SECRET"
    go(session, "stripe-webhook", STRIPE_WEBHOOK_SECRET="canary-new")
    assert {key, f"{key}_B"} <= read_config(session).keys()
    assert "canary-new" not in session.file.read_text()
    shown = pulumi(session.reader.folder, "config", "get", f"{key}_B", "--stack", "dev").strip()
    assert shown == "canary-new"

    go(session, "stripe-webhook", overlap=False)
    assert key not in read_config(session)
    assert preview_changes(session) == {}
    go(session, "stripe-webhook", overlap=False, STRIPE_WEBHOOK_SECRET="canary-newer")
    assert f"{key}_B" not in read_config(session)
    assert state(session, "STRIPE_WEBHOOK_SECRET")["period"] == 2


def test_due_rotates_what_is_due_and_lists_the_rest(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    done = rotating.rotate_due(session, POLICY)
    assert done["rotated"] == {}
    assert {item["action"] for item in done["notDue"]} == {"wait"}

    recorded = session.reader.read_history

    def a_year_older(size: int, page: int) -> list[Entry]:
        return [
            replace(entry, started=entry.started.replace(year=entry.started.year - 1)) for entry in recorded(size, page)
        ]

    monkeypatch.setattr(session.reader, "read_history", a_year_older)
    done = rotating.rotate_due(session, POLICY)
    phases = {name: state["phase"] for name, state in done["rotated"].items()}
    assert phases["JWT_SECRET"] == phases["SESSION_SECRET"] == "verified"
    assert {item["action"] for item in done["notDue"]} == {"give"}
    assert "STRIPE_SECRET_KEY" in {item["secret"] for item in done["notDue"]}

    again = rotating.rotate_due(session, POLICY)
    assert again["rotated"] == {}
    assert "JWT_SECRET" in {item["secret"] for item in again["notDue"] if item["action"] == "wait"}


def test_an_update_that_could_not_start_does_not_make_the_stack_file_an_older_one(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's history has it, with the state that the stack file had only for a moment."""
    monkeypatch.setenv("TEST_RAISES", "1")
    with pytest.raises(Refused, match="could not start; nothing was changed"):
        go(session, "JWT_SECRET")
    assert state(session) == {}
    monkeypatch.delenv("TEST_RAISES")
    go(session, "JWT_SECRET")
    assert state(session)["phase"] == "verified"


@pytest.mark.parametrize("written", [{"length": 64, "rotate": "never"}, {"length": 64}], ids=["said", "by its name"])
def test_a_key_that_encrypts_data_is_replaced_by_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch, written: dict[str, Any]
) -> None:
    document = yaml.safe_load(session.file.read_text())
    document["config"]["runbook:credentials"]["generated"]["ENCRYPTION_KEY"] = written
    session.file.write_text(yaml.safe_dump(document, sort_keys=False))
    with pytest.raises(Refused, match=r"ENCRYPTION_KEY .*rotate"):
        go(session, "encryption-key")
    with pytest.raises(Refused, match="ENCRYPTION_KEY"):
        emergency.rotate_at_once(session, ["encryption-key"], POLICY, "a leak", lambda *_: True)

    records: list[Any] = []

    class FakeTasks:
        def __init__(self, *_: object) -> None: ...

        def run(self, *words: str) -> dict[str, Any]:
            return {"sessions": 3} if "log-out" in words else {"database": {"old": "refused"}}

    monkeypatch.setattr(emergency, "Tasks", FakeTasks)
    monkeypatch.setattr(emergency.incidents, "open_incident", lambda *given: records.append(given[2]) or "incident-1")
    monkeypatch.setattr(emergency.incidents, "close_incident", lambda *given: records.append(given[2]))
    asked: list[str] = []
    done = emergency.rotate_at_once(
        session, [], POLICY, "a leak", lambda _, left: asked.extend(each.secret for each in left) or True
    )
    assert "JWT_SECRET" in done["rotated"]
    assert "ENCRYPTION_KEY" not in done["rotated"]
    assert state(session, "ENCRYPTION_KEY") == {}
    by_hand = {each["secret"]: each for each in done["byHand"]}
    assert set(asked) == set(done["left"]) == by_hand.keys()
    assert "encrypt" in by_hand["ENCRYPTION_KEY"]["why"]
    assert "STRIPE_SECRET_KEY" in by_hand
    assert [each["secret"] for each in records[0]["left"]] == asked
    rows = {item["secret"]: item for item in rotating.rotate_due(session, POLICY)["notDue"]}
    assert (rows["ENCRYPTION_KEY"]["action"], rows["ENCRYPTION_KEY"]["when"]) == ("never", None)


@pytest.mark.parametrize("before", ["dual", "verified"])
def test_a_rotation_does_not_undo_what_the_controller_did_between_two_updates(
    session: Session, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    bad = RELEASED["image"]
    rollback = {**RELEASED, "revision": 2, "image": bad.replace("1" * 64, "2" * 64), "action": "rollback"}
    rollback |= {"rollbackOf": 1, "migrate": False}
    quarantined = {"digest": bad.split("@")[1], "reason": "errors", "revision": 1}
    changes = {RELEASE: rollback, "runbook:quarantine": [quarantined]}
    said: list[str] = []

    def say(text: str, style: str | None = None) -> None:
        if text == f"JWT_SECRET: {before}" and not said:
            said.append(str(change_elsewhere(session, changes, "revision 2: rollback by controller")))

    monkeypatch.setattr(session, "say", say, raising=False)
    with pytest.raises(Interrupted, match=r"revision 2 runs instead of revision 1.*by controller") as stopped:
        go(session, "JWT_SECRET")
    assert f"Stopped before `rotate JWT_SECRET to {before}`" in str(stopped.value)
    newest = next(session.history().updates())
    assert (newest.revision, newest.config["runbook:quarantine"]) == (2, [quarantined])
    assert state(session)["phase"] != before, "the file says what was done"

    with pytest.raises(Refused, match=r"revision 2 \(rollback\) was released since"):
        go(session, "JWT_SECRET")
    Path(said[0]).replace(session.file)
    go(session, "JWT_SECRET")
    assert state(session)["phase"] == "verified"
    newest = next(session.history().updates())
    assert (newest.revision, newest.config["runbook:quarantine"]) == (2, [quarantined])


def test_a_rotation_that_changed_nothing_yet_is_refused_when_the_stack_changed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the time between its preview and its first update."""
    locked = {"runbook:maintenance": {"reason": "restore"}}

    def say(*_: object) -> None:
        if not session.file.with_name("Pulumi.theirs.yaml").exists():
            change_elsewhere(session, locked, "maintenance on by bob")

    monkeypatch.setattr(session, "say", say)
    with pytest.raises(Refused, match=r"maintenance began \(maintenance on by bob\).*Nothing was changed"):
        go(session, "JWT_SECRET")
    assert state(session) == {}
