"""When the rollback controller acts, and on which release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.controller.alerts import Alert, Hint
from ops.controller.guard import Situation, decide
from ops.stack.history import Entry
from settings import Lockdown, Maintenance, Release
from settings.lockdown import LOCKDOWN
from settings.monitoring import Rollback

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HINT = Hint("f1", NOW - timedelta(seconds=5))
ALERT = Alert(
    HINT, {"alertname": "RollbackErrorRate", "action": "rollback", "namespace": "shop"}, {"summary": "errors"}
)


def release(revision: int, action: str = "deploy", image: str = "b", git: str = "1a2b3c4", **rest: Any) -> Release:
    more: dict[str, Any] = (
        {"action": "rollback", "rollbackOf": revision - 1, "migrate": False} if action == "rollback" else {}
    )
    schema = {"min": 1, "max": 2, "level": 1}
    reference = f"registry.example.com/shop@sha256:{image * 64}"
    return Release.model_validate(
        {"revision": revision, "image": reference, "git": git, "schema": schema, **more, **rest}
    )


def update(
    of: Release,
    seconds_ago: float,
    result: str = "succeeded",
    message: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Entry:
    ended = NOW - timedelta(seconds=seconds_ago)
    said = of.message if message is None else message
    everything = {"runbook:release": of.to_config(), **(config or {})}
    return Entry("update", result, ended - timedelta(seconds=40), ended, said, {}, everything, {})


def situation(*updates: Entry, **changes: Any) -> Situation:
    newest = updates[0].release if updates else None
    return replace(Situation(NOW, "shop", Rollback(), None, None, newest, updates), **changes)


FRESH = (update(release(2), 60), update(release(1, image="a"), 5000))


def test_a_fresh_release_is_rolled_back() -> None:
    assert decide(ALERT, situation(*FRESH)).act == "rollback"


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (situation(update(release(2), 3601), FRESH[1]), "runs for 60 min"),
        (situation(update(release(2), 3600), FRESH[1]), None),
        (situation(update(release(2), 60, "failed"), FRESH[1]), "the last update failed"),
        (situation(update(release(3, "rollback"), 60), *FRESH), "is a rollback already"),
        # A rotation later carries the same revision: the release is as old as its own update.
        (
            situation(update(release(2), 60, message="rotate x"), update(release(2), 9999)),
            "runs for 2.8 h",
        ),
        (
            situation(update(release(4), 60), update(release(3, "rollback"), 899), *FRESH),
            "is within the cooldown: 1 s left",
        ),
        (situation(update(release(4), 60), update(release(3, "rollback"), 900), *FRESH), None),
        (situation(replace(update(release(2), 1), started=NOW - timedelta(seconds=4)), FRESH[1]), "before revision 2"),
        (situation(*FRESH, maintenance=Maintenance(reason="moving house")), "moving house"),
        (
            situation(*FRESH, settings=Rollback(enabled=False)),
            "automatic rollback is off (runbook:monitoring.rollback.enabled)",
        ),
        (situation(*FRESH, namespace="other"), "its namespace is shop"),
        (situation(), "nothing was ever released"),
    ],
)
def test_objections_to_a_rollback(at: Situation, why: str | None) -> None:
    verdict = decide(ALERT, at)
    assert verdict.act == ("report" if why else "rollback")
    assert not why or why in verdict.why


@pytest.mark.parametrize("fast", [30, 600, 86_400])
def test_an_operator_whose_clock_is_fast_prevents_no_rollback(fast: float) -> None:
    """Deployed a minute ago, from a machine whose clock was ahead: in the history, the alert is older."""
    assert decide(ALERT, situation(update(release(2), 60 - fast), FRESH[1])).act == "rollback"
    since = update(release(3, "rollback"), 1000 - fast)
    verdict = decide(ALERT, situation(update(release(4), 60 - fast), since, *FRESH))
    assert verdict.act == "rollback" or (verdict.again_seconds or 0) <= Rollback().cooldown_seconds


def test_an_operator_whose_clock_is_fast_makes_no_cooldown_longer() -> None:
    """It ended a lockdown early; by its clock, that is still to come."""
    until = NOW + timedelta(seconds=300)
    lockdown = Lockdown(reason="r", since=NOW - timedelta(seconds=300), until=until, automatic=True)
    before = update(release(2), 2000, config={LOCKDOWN: lockdown.to_config()})
    at = situation(update(release(2), -5000), before, lockdown_cooldown_seconds=600)
    verdict = decide(replace(ALERT, labels={**ALERT.labels, "action": "lockdown"}), at)
    assert 0 < (verdict.again_seconds or 0) <= 600


# -- which release it is about -------------------------------------------------------------------------

BAD, FIX = release(6, git="aaaaaaa1", version="1.6.0"), release(7, git="bbbbbbb2", version="1.7.0")


def about(seconds_ago: float, **labels: str) -> Alert:
    return Alert(Hint("f1", NOW - timedelta(seconds=seconds_ago)), {**ALERT.labels, **labels}, {})


def fixed(seconds_ago: float) -> Situation:
    """The fix was deployed so long ago, in 40 s."""
    windows = {"RollbackHealth": 25.0, "RollbackErrorRate": 45.0}
    return replace(situation(update(FIX, seconds_ago), update(BAD, 3000)), windows=windows)


@pytest.mark.parametrize(
    ("alert", "why"),
    [
        # It fires since before the fix was begun, or it names the release before by a label or an annotation.
        (about(120, alertname="RollbackHealth"), "fired before revision 7 was released"),
        (about(50, git="aaaaaaa1"), "it is about revision 6 (git aaaaaaa1), and revision 7 (git bbbbbbb2) runs"),
        (about(50, git="aaaaaaa"), "it is about revision 6"),
        (about(50, git="aaaaaaa1ffff"), "it is about revision 6"),
        (about(50, release="1.6.0"), "it is about revision 6"),
        (about(50, revision="6"), "it is about revision 6"),
        (replace(about(50), annotations={"revision": "6"}), "it is about revision 6"),
        (about(5, git="aaaaaaa1"), "it is about revision 6"),
        # A label that happens to be called so (`release: prometheus`) names no release.
        (about(5, release="prometheus"), None),
        (about(5, git="unknown"), None),
        (about(5, git="bbbbbbb2", release="1.6.0"), None),
        (about(5), None),
        (about(50, git="bbbbbbb2"), None),
        # The clock of the machine that deployed it is ahead of Prometheus's.
        (about(120, git="bbbbbbb2"), None),
    ],
)
def test_the_fix_is_not_taken_back_for_an_alert_about_the_release_before(alert: Alert, why: str | None) -> None:
    verdict = decide(alert, fixed(30))
    assert verdict.act == ("report" if why else "rollback"), verdict
    assert not why or why in verdict.why
    assert verdict.again_seconds is None, "final"


def test_an_alert_without_a_release_from_the_time_of_the_update_has_to_outlast_its_window() -> None:
    alert = about(60, alertname="RollbackHealth")
    early = decide(alert, fixed(22))
    assert early.again_seconds == 3
    assert "began before revision 7 was deployed" in early.why
    assert decide(alert, fixed(25)).act == "rollback", "it still fires, although revision 6 is long gone"
    unknown = decide(about(60, alertname="Mine"), fixed(25))
    assert unknown.again_seconds == 20, "the longest window"


def test_a_release_with_the_same_commit_as_the_one_before_is_not_accused_by_it() -> None:
    """Only its configuration is new."""
    both = [release(7, git="bbbbbbb2"), release(6, git="bbbbbbb2")]
    at = replace(situation(update(both[0], 10), update(both[1], 3000)), windows={"RollbackHealth": 25.0})
    assert decide(about(30, git="bbbbbbb2"), at).again_seconds
    assert decide(about(5, git="bbbbbbb2"), at).act == "rollback"


def test_a_release_that_was_taken_back_and_is_deployed_again_is_judged_by_what_outlasts_the_window() -> None:
    bad, back, again = release(6, git="bbbbbbb2"), release(7, "rollback", git="aaaaaaa1"), release(8, git="bbbbbbb2")

    def deployed(seconds_ago: float) -> Situation:
        windows = {"RollbackErrorRate": 45.0}
        return situation(update(again, seconds_ago), update(back, 1500), update(bad, 3000), windows=windows)

    since_the_first_time = about(1600, git="bbbbbbb2")
    early = decide(since_the_first_time, deployed(22))
    assert (early.act, early.again_seconds) == ("report", 23)
    assert "may be about one before" in early.why
    assert decide(since_the_first_time, deployed(45)).act == "rollback"
    assert decide(about(5, git="bbbbbbb2"), deployed(22)).act == "rollback", "it fires anew"


@pytest.mark.parametrize(
    ("at", "again"),
    [
        (situation(*FRESH, maintenance=Maintenance(reason="moving house")), 60),
        (situation(update(release(4), 60), update(release(3, "rollback"), 800), *FRESH), 100),
        (situation(update(release(2), 60, "failed"), FRESH[1]), 60),
        (situation(update(release(2), 3601), FRESH[1]), None),
        (situation(update(release(3, "rollback"), 60), *FRESH), None),
        (situation(replace(update(release(2), 1), started=NOW - timedelta(seconds=4)), FRESH[1]), None),
        (situation(*FRESH, settings=Rollback(enabled=False)), None),
    ],
)
def test_only_what_stays_so_is_a_final_verdict(at: Situation, again: float | None) -> None:
    verdict = decide(ALERT, at)
    assert (verdict.act, verdict.again_seconds) == ("report", again)
    assert bool(verdict.topic) == bool(again)


# -- lockdown ------------------------------------------------------------------------------------------

ATTACK = replace(ALERT, labels={**ALERT.labels, "action": "lockdown"})


def locked(seconds_ago: float, minutes: int = 60, *, automatic: bool = True) -> Entry:
    """The update that began a lockdown."""
    since = NOW - timedelta(seconds=seconds_ago)
    made = Lockdown(reason="x", since=since, until=since + timedelta(minutes=minutes), automatic=automatic)
    return update(release(2), seconds_ago, message="lockdown on", config={LOCKDOWN: made.to_config()})


@pytest.mark.parametrize(
    ("updates", "left"),
    [
        ([locked(5400)], 86_400 - 1800),
        # Ended sooner, by an operator: the cooldown counts from there.
        ([update(release(2), 4960, message="lockdown off"), locked(5400)], 86_400 - 5000),
        ([locked(3600 + 86_399)], 1),
        ([locked(3600 + 86_400)], None),
        ([locked(5400, automatic=False)], None),
        ([update(release(2), 60)], None),
    ],
)
def test_an_automatic_lockdown_has_a_cooldown_in_which_people_are_called(
    updates: list[Entry], left: int | None
) -> None:
    """Ten requests an hour would keep the shop closed otherwise."""
    at = situation(*updates, lockdown_cooldown_seconds=86_400, escalation=("@security-team",))
    verdict = decide(ATTACK, at)
    assert verdict.again_seconds == left
    assert (verdict.act, verdict.mentions) == (("report", ("@security-team",)) if left else ("lockdown", ()))


def test_an_attack_always_locks_down_and_never_rolls_back() -> None:
    attack = ATTACK
    old = update(release(2), 99_999)
    assert decide(attack, situation(old)).act == decide(attack, situation(*FRESH)).act == "lockdown"
    lockdown = Lockdown(reason="x", since=NOW - timedelta(hours=1), until=NOW + timedelta(seconds=1))
    assert decide(attack, situation(*FRESH, lockdown=lockdown)).act == "report"
    over = Lockdown(reason="x", since=NOW - timedelta(hours=1), until=NOW)
    assert decide(attack, situation(*FRESH, lockdown=over)).act == "lockdown"


def test_an_alert_without_an_action_is_reported() -> None:
    assert decide(replace(ALERT, labels={"namespace": "shop"}), situation(*FRESH)).act == "report"
