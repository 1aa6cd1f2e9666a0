"""`runbook restore` in place against a real engine; the tasks in the cluster are an automaton of the same phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.commands import restore, rollback, update
from ops.commands.restore import restore_in_place, undo
from ops.errors import Interrupted, OpsError, Refused
from ops.stack.session import Session
from tests.support.stack_session import POLICY, create_session, needs_engine, read_config

PROGRAM = """
import pulumi
import pulumi_random as random

config = pulumi.Config("runbook")
release, maintenance = config.get_object("release") or {}, config.get_object("maintenance") or {}
random.RandomId("release", byte_length=4, keepers={key: str(release.get(key)) for key in ("image", "restoredOver")})
random.RandomId("maintenance", byte_length=4, keepers={"reason": maintenance.get("reason", "")})
"""
RELEASE = {
    "revision": 1,
    "image": "registry.example.com/shop@sha256:" + "1" * 64,
    "git": "aaaa111",
    "schema": {"min": 1, "max": 1, "level": 1},
}
BACKUP = "20260816T020000Z-scheduled-4f1a"

pytestmark = needs_engine


class Phases:
    """A restore's tasks: phases, and what was asked of them."""

    def __init__(self) -> None:
        self.phase, self.last = "idle", None
        self.made = 0
        self.ran: list[str] = []
        self.maintained: list[bool] = []
        self.session: Session | None = None
        self.of_another: str | None = None
        self.replaced: str | None = "shop_replaced"

    def run(self, *words: str) -> Any:
        if words == ("backup", "list"):
            return [{"id": BACKUP, "schema_level": None, "created_at": "2026-08-16T02:00:00Z", "kind": "scheduled"}]
        verb = words[1]
        if verb != "state":
            self.ran.append(verb)
            assert self.session is not None
            self.maintained.append("runbook:maintenance" in read_config(self.session))
        if verb == "prepare":
            self.phase, self.made = "prepared", self.made + 1
        elif verb == "swap":
            self.phase = "swapped"
        elif verb == "undo":
            self.phase = "undone"
        elif verb == "finish":
            self.phase, self.last = "idle", {"backup": BACKUP, "safety": self.safety}
        found: dict[str, Any] = {"phase": self.phase, "backup": None if self.phase == "idle" else BACKUP}
        found |= {"safety": self.safety, "last": self.last, "left_out": ["GRANT to metabase_ro"]}
        found["replaced"] = self.replaced if self.phase == "swapped" else None
        late = {"late": ["orders: 2 rows changed"], "late_backup": "late-1"} if verb == "finish" else {}
        return {**found, **late, "of_another": self.of_another}

    @property
    def safety(self) -> str:
        return f"safety-{self.made}"


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> Phases:
    made = Phases()
    for module in (restore, rollback):
        monkeypatch.setattr(module, "tasks_of", lambda *_: made)
    return made


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phases: Phases) -> Session:
    opened = create_session(tmp_path, monkeypatch, PROGRAM, {"runbook:release": RELEASE}, updated=True)
    phases.session = opened
    return opened


def kill(*_: object) -> None:
    raise Interrupted("killed")


def go(session: Session, **more: Any) -> dict[str, Any]:
    return restore_in_place(session, BACKUP, POLICY, lambda _: True, **more)


def test_maintenance_ends_last_and_what_was_left_out_is_reported(session: Session, phases: Phases) -> None:
    done = go(session)
    assert phases.ran == ["prepare", "swap", "finish"]
    assert all(phases.maintained), "until the old database is dropped customers get the maintenance page"
    assert "runbook:maintenance" not in read_config(session)
    assert done["leftOut"] == ["GRANT to metabase_ro"]
    assert (done["late"], done["lateBackup"]) == (["orders: 2 rows changed"], "late-1")
    messages = [entry.message.partition(" by ")[0] for entry in session.history()]
    assert messages[:3] == [f"restore {BACKUP}: open", f"restore {BACKUP}", f"maintenance on: restore {BACKUP}"]


@pytest.mark.parametrize("killed", ["before the last update", "in the last update"])
def test_the_same_command_after_the_old_database_was_dropped_restores_nothing(
    session: Session, phases: Phases, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Orders that came since would be lost."""
    with monkeypatch.context() as patched:
        if killed == "before the last update":
            patched.setattr(restore, "end_maintenance", kill)
        else:
            run_update = update._up
            patched.setattr(update, "_up", lambda *given: (kill if ": open" in given[1] else run_update)(*given))
        with pytest.raises(Interrupted):
            go(session)
    assert phases.last == {"backup": BACKUP, "safety": "safety-1"}
    phases.ran.clear()
    go(session)
    assert phases.ran == []
    assert "runbook:maintenance" not in read_config(session)
    go(session)
    assert phases.ran == ["prepare", "swap", "finish"], "a restore that is asked for anew is made"


def test_an_undo_is_under_maintenance_too(session: Session, phases: Phases) -> None:
    phases.phase = "swapped"
    undo(session, POLICY)
    assert (phases.ran, phases.maintained) == (["undo"], [True])
    assert "runbook:maintenance" not in read_config(session)


@pytest.mark.parametrize("phase", ["idle", "swapped"])
def test_an_undo_without_anything_to_put_back_begins_no_maintenance(
    session: Session, phases: Phases, phase: str
) -> None:
    phases.phase, phases.replaced = phase, None
    before = session.file.read_bytes()
    with pytest.raises(Refused, match="Nothing was changed"):
        undo(session, POLICY)
    assert (session.file.read_bytes(), phases.ran) == (before, [])


def test_a_backup_of_another_stack_is_refused_unless_asked_for(session: Session, phases: Phases) -> None:
    phases.of_another = "stack runbook/staging; this is runbook/prod"
    before = session.file.read_bytes()
    with pytest.raises(Refused, match=r"of stack runbook/staging.* --of-another"):
        go(session)
    assert (session.file.read_bytes(), phases.ran) == (before, [])
    assert go(session, of_another=True)["result"] == "succeeded"


def test_a_failing_check_restores_the_old_database_under_maintenance(
    session: Session, phases: Phases, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = session.reader.folder / "__main__.py"
    program.write_text(PROGRAM + '\nif release.get("restoredOver"):\n    raise Exception("the smoke check failed")\n')
    with pytest.raises(OpsError, match="smoke check failed"):
        go(session)
    assert phases.ran == ["prepare", "swap", "undo"]
    assert all(phases.maintained)
