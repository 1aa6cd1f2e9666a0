"""One rollback from its decision to its end, with test doubles around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ops.adapters.cluster import Unreachable
from ops.causes.cause import Cause
from ops.controller import rollback_run
from ops.controller.guard import LOCKED_SECONDS, Verdict
from ops.controller.journal import Doing
from ops.controller.rollback_run import RollbackRun
from ops.errors import Interrupted, OpsError, Refused, Stuck
from ops.stack.history import Entry, History
from ops.stack.locks import EngineLock, Locked
from settings import Monitoring
from settings.budget import Budget
from settings.monitoring import Rollback
from tests.support.stack_session import POLICY
from tests.unit.test_controller_guard import ALERT, NOW, release, update
from tests.unit.test_health_checks import BROKEN, FINE, NO_PAYMENTS

PLAN = SimpleNamespace(leaving=release(2), target=1)
LOCKED = Locked([EngineLock("alice", "laptop", 1, "2026-11-22T12:00:00")])
DONE = {"revision": 3, "target": 1, "seconds": 9.0}
BEGUN = Doing(ALERT.to_dict(), 2, 1, "incident")


class World:
    """The facts that the rollback reads, and what it does; also its Reporter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        self.end: OpsError | None = None
        self.applied = 0
        """How many updates the rollback makes before its end."""
        self.refused: Refused | None = None
        self.locked: Locked | None = None
        self.unreadable: Refused | None = None
        self.updates: list[Entry] = [update(release(2), 60), update(release(1, image="a"), 5000)]
        self.answers: list[Any] = [FINE]
        self.dry_run = False
        self.log: list[str] = []
        self.texts: list[str] = []
        """What Slack and the record were given last."""
        self.session = SimpleNamespace(file=file, judged=SimpleNamespace(updates=0))
        doubles = {
            "datetime": SimpleNamespace(now=lambda _: NOW),
            "StackLock": lambda *_: nullcontext(),
            "require_unlocked": lambda *_: self._raise(self.locked),
            "gather_context": lambda *_, **__: self._facts(),
            "make_plan": lambda *_: self._raise(self.refused) or PLAN,
            "prepare_update": lambda *_: None,
            "carry_out": lambda *_: self._carry_out(),
            "read_health_answers": lambda *_: self.answers,
            "rollback_budget": lambda *_: Budget((), 90, {}),
        }
        for name, double in doubles.items():
            monkeypatch.setattr(rollback_run, name, double)

    def run(self, doing: Doing | None = None) -> Verdict | None:
        world: Any = self
        session: Any = self.session
        return RollbackRun(lambda: session, POLICY, world, ALERT, doing).run()

    def _facts(self) -> Any:
        self._raise(self.unreadable)
        monitoring = Monitoring(rollback=Rollback(dry_run=self.dry_run))
        settings = SimpleNamespace(
            status_page=None, namespace="shop", maintenance=None, lockdown=None, monitoring=monitoring, application=None
        )
        history = History(lambda size, page: self.updates if page == 1 else [])
        now = SimpleNamespace(release=self.updates[0].release)
        return SimpleNamespace(settings=settings, history=history, now=now, cluster=None)

    def _carry_out(self) -> Any:
        self.session.judged.updates += self.applied
        return self._raise(self.end) or DONE

    def _raise(self, error: OpsError | None) -> None:
        if error:
            raise error

    # -- as its Reporter -------------------------------------------------------------------------

    def begun(self, alert: Any, leaving: int, target: int, incident: str | None) -> Doing:
        if incident is None:
            self.log.append(f"open {leaving} to {target}")
        self.log.append("begin")
        return Doing(alert.to_dict(), leaving, target, incident or "incident")

    def given_up(self, incident: str, why: str) -> None:
        self.log.append(f"give up {incident}")

    def ended(self, alert: Any, incident: str, outcome: str, text: str, **facts: Any) -> None:
        self.log.append(f"{outcome} {incident}")
        self.texts = [text, *map(str, facts.values())]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path / "Pulumi.test.yaml")


def ends(world: World, expected: Sequence[str], doing: Doing | None = None) -> None:
    assert world.run(doing) is None
    assert world.log == list(expected)


def test_it_is_written_down_before_it_begins(world: World) -> None:
    ends(world, ["open 2 to 1", "begin", "rollback incident"])


def test_a_failure_is_reported_with_its_record(world: World) -> None:
    world.end = Stuck("no pods")
    ends(world, ["open 2 to 1", "begin", "rollback-failed incident"])


def test_slack_and_the_record_get_the_first_line_of_the_cause_and_no_log(world: World) -> None:
    cause = Cause("Job smoke", "Job smoke failed: pod smoke-1, container smoke exited with code 1", log=["a line"])
    world.end = Stuck(f"The rollback failed:\n{cause}", [cause])
    world.run()
    assert len(world.texts) == 2
    for text in world.texts:
        assert text.endswith(f"The rollback failed: {cause.line}")


def test_a_dry_run_begins_nothing(world: World) -> None:
    world.dry_run = True
    why = "dry run: revision 2 would go back to the release of 1"
    assert world.run() == Verdict("report", why, dry_run=True)
    assert not world.log


def test_without_an_earlier_release_it_says_so(world: World) -> None:
    world.refused = Refused("There is no earlier release to go back to")
    assert world.run() == Verdict("report", "There is no earlier release to go back to")


def test_while_another_update_runs_nothing_is_judged(world: World) -> None:
    """The history does not have that update yet: the release before it would be judged, and remembered as done."""
    world.locked, world.unreadable = LOCKED, Refused("must not be read")
    verdict = world.run()
    assert verdict
    assert (verdict.topic, verdict.again_seconds) == ("locked", LOCKED_SECONDS)
    assert "alice@laptop" in verdict.why
    assert not world.log


@pytest.mark.parametrize(
    "end", [LOCKED, Refused("Stopped: another update ran meanwhile"), Refused("The update could not start")]
)
def test_what_changed_nothing_is_given_up_and_judged_again(world: World, end: OpsError) -> None:
    world.end = end
    verdict = world.run()
    assert verdict
    assert verdict.again_seconds, "not remembered"
    assert (verdict.topic == "locked") == isinstance(end, Locked)
    assert world.log == ["open 2 to 1", "begin", "give up incident"]


def test_a_cluster_that_is_gone_after_the_update_leaves_it_to_the_next_controller(world: World) -> None:
    """The update stands: it is not given up as one that changed nothing."""
    world.end, world.applied = Unreachable("the cluster is gone"), 1
    with pytest.raises(Interrupted, match="the cluster is gone"):
        world.run()
    assert world.log == ["open 2 to 1", "begin"]


def test_an_interrupted_one_is_left_for_the_next_controller(world: World) -> None:
    world.end = Interrupted("SIGTERM")
    with pytest.raises(Interrupted):
        world.run()
    assert world.log == ["open 2 to 1", "begin"]


def test_without_facts_nothing_is_decided(world: World) -> None:
    world.unreadable = Refused("no cluster")
    with pytest.raises(Refused):
        world.run()
    assert not world.log


# -- what the health answer says -----------------------------------------------------------------------


def test_a_dependency_that_fails_takes_no_release_back(world: World) -> None:
    """M2: the payments provider stops within an hour of the release."""
    world.answers = [NO_PAYMENTS, NO_PAYMENTS]
    verdict = world.run()
    assert verdict
    assert (verdict.act, verdict.topic) == ("report", "dependency")
    assert "of the health checks only payments fails" in verdict.why
    assert verdict.again_seconds, "judged again: the release may be bad as well"
    assert not world.log


@pytest.mark.parametrize("answers", [[FINE], [BROKEN], [NO_PAYMENTS, BROKEN], []])
def test_everything_else_takes_it_back(world: World, answers: list[Any]) -> None:
    world.answers = answers
    ends(world, ["open 2 to 1", "begin", "rollback incident"])


# -- after a kill --------------------------------------------------------------------------------------


def test_the_next_controller_goes_on_without_judging_again(world: World) -> None:
    world.updates = [update(release(2), 99_999), world.updates[1]]  # by now it would be too old
    world.answers = [NO_PAYMENTS]
    ends(world, ["begin", "rollback incident"], BEGUN)


def test_what_was_done_when_it_was_killed_is_only_closed(world: World) -> None:
    world.updates = [update(release(3, "rollback"), 5), *world.updates]
    verdict = world.run(BEGUN)
    assert verdict
    assert (verdict.act, verdict.again_seconds) == ("done", None)
    assert not world.log


def test_what_was_stopped_half_way_is_finished(world: World) -> None:
    world.updates = [update(release(3, "rollback"), 5, "failed"), *world.updates]
    ends(world, ["begin", "rollback incident"], BEGUN)


def test_a_release_made_in_the_meantime_stays(world: World) -> None:
    world.updates = [update(release(3), 5), *world.updates]
    verdict = world.run(BEGUN)
    assert verdict
    assert (verdict.act, verdict.why) == ("report", "revision 3 was released in the meantime")


def test_another_update_does_not_make_the_next_controller_forget_it(world: World) -> None:
    world.end = LOCKED
    verdict = world.run(BEGUN)
    assert verdict
    assert verdict.topic == "locked"
    assert world.log == ["begin"], "it is still in the journal"


def test_one_that_cannot_go_on_is_reported(world: World) -> None:
    world.end = Refused("Stopped: another update ran meanwhile")
    ends(world, ["begin", "rollback-failed incident"], BEGUN)
