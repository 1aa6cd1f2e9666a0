"""One rollback from its decision to its end, with test doubles around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ops.causes.cause import Cause
from ops.controller.guard import Verdict
from ops.controller.journal import Doing
from ops.controller.rollback_run import NotNeeded, RollbackRun
from ops.errors import Interrupted, OpsError, Refused, Stuck
from ops.stack.history import History
from ops.stack.locks import EngineLock, Locked
from settings import Monitoring
from settings.monitoring import Rollback
from tests.unit.test_controller import ALERT, NOW, release, update

PLAN = SimpleNamespace(leaving=release(2), target=1)
LOCKED = Locked([EngineLock("alice", "laptop", 1, "2026-11-22T12:00:00")])
DONE = {"revision": 3, "target": 1, "seconds": 9.0}


class World:
    """The facts that the rollback reads, and what it does; also its Reporter."""

    def __init__(self, *ends: OpsError | None, dry_run: bool = False) -> None:
        self.ends = list(ends)
        self.updates = [update(release(2), 60), update(release(1, image="a"), 5000)]
        self.rollback = Rollback(dry_run=dry_run)
        self.log: list[str] = []
        self.texts: list[str] = []
        """What Slack and the record were given last."""

    def fresh(self) -> None:
        return None

    def facts(self) -> Any:
        settings = SimpleNamespace(
            namespace="shop", maintenance=None, lockdown=None, monitoring=Monitoring(rollback=self.rollback)
        )
        history = History(lambda size, page: self.updates if page == 1 else [])
        return SimpleNamespace(settings=settings, history=history, now=SimpleNamespace(release=self.updates[0].release))

    def go(self, session: Any, wish: Any, confirm: Callable[..., bool], judge: Callable[[Any], None]) -> dict[str, Any]:
        assert wish.automatic
        judge(self.facts())
        confirm(PLAN, None)
        if end := self.ends.pop(0):
            raise end
        return DONE

    def begun(self, alert: Any, leaving: int, target: int, incident: str | None) -> Doing:
        if incident is None:
            self.log.append(f"open {leaving} to {target}")
        self.log.append("begin")
        return Doing(alert.to_dict(), leaving, target, incident or "incident")

    def given_up(self) -> None:
        self.log.append("give up")

    def unchanged(self, alert: Any, verdict: Verdict) -> None:
        self.log.append(f"{'dry-run' if verdict.dry_run else 'report'} {verdict.why}")

    def ended(self, alert: Any, incident: str, outcome: str, text: str, **facts: Any) -> None:
        self.log.append(f"{outcome} {incident}")
        self.texts = [text, *map(str, facts.values())]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=lambda _: NOW)
    monkeypatch.setattr("ops.controller.rollback_run.datetime", clock)


def attempt(world: Any, doing: Doing | None = None) -> RollbackRun:
    return RollbackRun(world.fresh, world.go, world, ALERT, doing)


def ends(world: World, expected: Sequence[str], doing: Doing | None = None) -> None:
    attempt(world, doing).run()
    assert world.log == list(expected)


def test_it_is_written_down_before_it_begins() -> None:
    ends(World(None), ["open 2 to 1", "begin", "rollback incident"])


def test_a_failure_is_reported_with_its_record() -> None:
    ends(World(Stuck("no pods")), ["open 2 to 1", "begin", "rollback-failed incident"])


def test_slack_and_the_record_get_the_first_line_of_the_cause_and_no_log() -> None:
    cause = Cause("Job smoke", "Job smoke failed: pod smoke-1, container smoke exited with code 1", log=["a line"])
    world = World(Stuck(f"The rollback failed:\n{cause}", [cause]))
    attempt(world).run()
    assert len(world.texts) == 2
    for text in world.texts:
        assert text.endswith(f"The rollback failed: {cause.line}")


def test_a_dry_run_begins_nothing() -> None:
    ends(World(dry_run=True), ["dry-run dry run: revision 2 would go back to the release of 1"])


def test_after_another_update_it_is_decided_again() -> None:
    world = World(LOCKED)
    tried = attempt(world)
    with pytest.raises(Locked):
        tried.run()
    assert world.log == ["open 2 to 1", "begin", "give up"]
    world.updates = [update(release(3), 5, "failed"), *world.updates]
    tried.run()
    assert world.log[3:] == ["report incident"]


def test_another_update_that_does_not_end_is_reported() -> None:
    world = World(LOCKED)
    tried = attempt(world)
    with pytest.raises(Locked):
        tried.run()
    tried.out_of_time(LOCKED)
    assert world.log[3:] == ["failed incident"]
    with pytest.raises(Locked):
        attempt(world).out_of_time(LOCKED)


def test_an_interrupted_one_is_left_for_the_next_controller() -> None:
    world = World(Interrupted("SIGTERM"))
    with pytest.raises(Interrupted):
        attempt(world).run()
    assert world.log == ["open 2 to 1", "begin"]


def test_without_facts_nothing_is_decided() -> None:
    world = World(None)
    world.facts = lambda: (_ for _ in ()).throw(Refused("no cluster"))
    with pytest.raises(Refused):
        attempt(world).run()
    assert not world.log


BEGUN = Doing(ALERT.to_dict(), 2, 1, "incident")


def test_the_next_controller_goes_on_without_asking_again() -> None:
    world = World(None)
    world.updates = [update(release(2), 99_999), world.updates[1]]  # by now it would be too old
    ends(world, ["begin", "rollback incident"], BEGUN)


def test_what_was_done_when_it_was_killed_is_only_closed() -> None:
    world = World()
    world.updates = [update(release(3, "rollback"), 5), *world.updates]
    ends(world, ["rollback incident"], BEGUN)


def test_what_was_stopped_half_way_is_finished() -> None:
    world = World(None)
    world.updates = [update(release(3, "rollback"), 5, "failed"), *world.updates]
    ends(world, ["begin", "rollback incident"], BEGUN)


def test_a_release_made_in_the_meantime_stays() -> None:
    world = World()
    world.updates = [update(release(3), 5), *world.updates]
    ends(world, ["report incident"], BEGUN)


def test_not_needed_is_no_error_of_the_operator_s_command() -> None:
    assert not issubclass(NotNeeded, OpsError)
