"""An update that failed and that was not followed up: restored, or the exact command is said, once."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.commands.rollback import Wish
from ops.controller import follow_up, rollback_run
from ops.decisions.release_state import read_release_state
from ops.decisions.rollback_target import rollback_target
from ops.stack.history import Entry, History
from settings import Maintenance, Monitoring
from settings.monitoring import Rollback
from tests.support.stack_session import POLICY
from tests.unit.test_controller_guard import NOW, release, update

SECONDS = 900


def plain(entry: Entry, **config: Any) -> Entry:
    """As a `pulumi up` without `runbook` writes it."""
    return replace(
        entry, message="", config={**entry.config, **{f"runbook:{key}": value for key, value in config.items()}}
    )


GOOD = update(release(1, image="a"), 5000)
FAILED = plain(update(release(2), SECONDS, "failed"))


class World:
    """What the controller reads, and its Reporter and Journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates: list[Entry] = [FAILED, GOOD]
        self.settings = Rollback(unfinished="rollback", unfinished_seconds=SECONDS)
        self.maintenance: Maintenance | None = None
        self.said: list[str] = []
        self.wishes: list[Wish] = []
        self.keys: set[str] = set()
        clock = SimpleNamespace(now=lambda _: NOW)
        monkeypatch.setattr(follow_up, "datetime", clock)
        monkeypatch.setattr(follow_up, "load_settings", lambda _: self._settings())
        for name, double in {
            "StackLock": lambda *_: nullcontext(),
            "require_unlocked": lambda *_: None,
            "gather_context": lambda *_, **__: self._facts(),
            "make_plan": self._plan,
            "prepare_update": lambda *_: None,
            "carry_out": lambda *_: {"revision": 3, "target": 1, "seconds": 9.0},
        }.items():
            monkeypatch.setattr(rollback_run, name, double)

    def run(self) -> None:
        world: Any = self
        session: Any = SimpleNamespace(file=Path("Pulumi.prod.yaml"), history=self._history)
        follow_up.follow_up(session, lambda: session, POLICY, world, world)

    def _history(self) -> History:
        return History(lambda size, page: self.updates if page == 1 else [])

    def _settings(self) -> Any:
        monitoring = Monitoring(rollback=self.settings)
        common: dict[str, Any] = {"namespace": "shop", "lockdown": None, "status_page": None}
        return SimpleNamespace(**common, maintenance=self.maintenance, monitoring=monitoring)

    def _facts(self) -> Any:
        history = self._history()
        now = read_release_state(self.updates[0].config, history.newest_update)
        text = SimpleNamespace(path=Path("Pulumi.prod.yaml"))
        return SimpleNamespace(settings=self._settings(), history=history, now=now, cluster=None, text=text)

    def _plan(self, session: Any, facts: Any, wish: Wish) -> Any:
        self.wishes.append(wish)
        target = rollback_target(facts.history, facts.now, None, allow_quarantined=False)
        return SimpleNamespace(leaving=facts.now.release, target=target.revision)

    # -- as its Journal and Reporter -------------------------------------------------------------

    def handled(self, key: str) -> bool:
        return key in self.keys

    def begun(self, alert: Any, leaving: int, target: int, incident: str | None) -> Any:
        self.said.append(f"{leaving} to {target}")
        return SimpleNamespace(leaving=leaving, target=target, incident="incident")

    def ended(self, alert: Any, incident: str, outcome: str, text: str, **facts: Any) -> None:
        self.keys.add(alert.hint.key)
        self.said.append(outcome)

    def not_followed_up(self, alert: Any, verdict: Any) -> None:
        self.keys.add(alert.hint.key)
        self.said.append(verdict.why)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_the_release_before_is_restored_and_none_is_quarantined(world: World) -> None:
    world.run()
    assert world.said == ["2 to 1", "rollback"]
    assert [wish.quarantine for wish in world.wishes] == [False]


@pytest.mark.parametrize(("age", "acts"), [(SECONDS - 1, False), (SECONDS, True)])
def test_people_have_their_time_first(world: World, age: int, acts: bool) -> None:
    ended = NOW - timedelta(seconds=age)
    world.updates = [replace(FAILED, ended=ended), GOOD]
    world.run()
    assert bool(world.said) == acts


def test_by_default_the_exact_command_is_said_once(world: World) -> None:
    world.settings = Rollback()
    world.run()
    world.run()
    [said] = world.said
    assert "`runbook rollback --stack prod`" in said
    assert "restore revision 1" in said
    assert not world.wishes


def test_nothing_is_said_of_an_update_that_succeeded_or_is_switched_off(world: World) -> None:
    world.settings = Rollback(enabled=False)
    world.run()
    world.settings = Rollback(unfinished="rollback")
    world.updates = [update(release(2), SECONDS), GOOD]
    world.run()
    assert world.said == []


def test_during_maintenance_people_decide(world: World) -> None:
    world.maintenance = Maintenance(reason="a move")
    world.run()
    assert "runbook rollback" in world.said[0]


def test_a_command_that_failed_is_run_again(world: World) -> None:
    world.updates = [replace(FAILED, message="rotate jwt-secret by alice@laptop"), GOOD]
    world.run()
    assert world.said[0].endswith("Run the command of that update (rotate) again")


def test_settings_that_no_rollback_restores_are_named(world: World) -> None:
    served = update(release(2), 2000)
    world.updates = [
        plain(replace(served, result="failed", started=NOW, ended=NOW - timedelta(hours=1)), data={"x": 1}),
        served,
    ]
    world.run()
    assert "(runbook:data) in Pulumi.prod.yaml, then `pulumi up --stack prod`" in world.said[0]


def test_without_an_earlier_release_it_says_so(world: World) -> None:
    world.updates = [FAILED]
    world.run()
    assert "no earlier release" in world.said[0]


def test_an_update_in_the_meantime_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world._facts

    def later() -> Any:
        world.updates = [update(release(3), 1), *world.updates]
        return facts()

    monkeypatch.setattr(rollback_run, "gather_context", lambda *_, **__: later())
    world.run()
    assert world.said == []
    assert world.keys == set()


def test_a_release_that_was_changed_under_its_number_goes_back_to_what_it_was() -> None:
    """A plain `pulumi up` with another image, whose revision was not raised."""
    served, before = update(release(2, image="a"), 3000), update(release(1, image="c"), 5000)
    failed = plain(update(release(2, image="b"), 60, "failed"))
    history = History(lambda size, page: [failed, served, before] if page == 1 else [])
    now = read_release_state(failed.config, failed)
    found = rollback_target(history, now, None, allow_quarantined=False).release
    assert found
    assert (found.revision, found.image) == (2, served.release.image if served.release else None)

    done = History(lambda size, page: [served, before] if page == 1 else [])
    assert rollback_target(done, read_release_state({}, served), None, allow_quarantined=False).revision == 1
