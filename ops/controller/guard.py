"""Decides whether an alert rolls the release back. Pure: alert, history and settings in, verdict out.

Failures are blamed on a release only while it is new, and only when the alert is about it. An attacker or an
unavailable database can make alerts fire, and must not be able to switch a shop between releases.

A verdict is final unless it has `again_seconds`: what is in the way ends (maintenance, a cooldown, another update), and
the alert is judged again then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from ops.controller.alerts import Alert
from ops.stack.history import Entry
from ops.stack.locks import Locked
from settings import Lockdown, Maintenance, Release
from settings.lockdown import LOCKDOWN
from settings.monitoring import Rollback

LOCKED_SECONDS = 3
"""Until a stack that another update holds is looked at again."""
AGAIN_SECONDS = 60
"""Until an alert is judged again, where the end of what is in the way is not known."""


@dataclass(frozen=True)
class Situation:
    """The facts at the time of the alert."""

    now: datetime
    namespace: str
    settings: Rollback
    maintenance: Maintenance | None
    lockdown: Lockdown | None
    release: Release | None
    updates: Sequence[Entry]
    """Updates with a release, newest first."""
    windows: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds for which each alert goes on firing at the most when what it is about has ended."""
    lockdown_cooldown_seconds: float = 0
    escalation: tuple[str, ...] = ()
    """Who is called when an automatic lockdown is in its cooldown."""


@dataclass(frozen=True)
class Verdict:
    """What the controller does, and why not more."""

    act: Literal["rollback", "lockdown", "report", "done"]
    """`done`: a killed controller had finished it."""
    why: str = ""
    dry_run: bool = False
    """It would have been done, but the settings ask for a dry run."""
    again_seconds: float | None = None
    """Not final: seconds until the alert is judged again, if it still fires."""
    topic: str = ""
    """What is in the way: it is reported once."""
    mentions: tuple[str, ...] = ()
    """Who has to act, because the controller does not."""


def wait(topic: str, why: str, seconds: float | None = None, mentions: tuple[str, ...] = ()) -> Verdict:
    """Not now: the alert is judged again."""
    again = AGAIN_SECONDS if seconds is None else max(1.0, seconds)
    return Verdict("report", why, again_seconds=again, topic=topic, mentions=mentions)


def wait_for(taken: Locked) -> Verdict:
    """Another update runs: judged again as soon as it has ended."""
    return wait("locked", f"another update runs: {', '.join(map(str, taken.locks))}", LOCKED_SECONDS)


def decide(alert: Alert, at: Situation) -> Verdict:
    at = replace(at, updates=[_correct_clock(update, at.now) for update in at.updates])
    if alert.namespace != at.namespace:
        return _final(f"its namespace is {alert.namespace or 'not set'}, and this controller serves {at.namespace}")
    if alert.action == "lockdown":
        return _find_lockdown_objection(at) or Verdict("lockdown")
    if alert.action != "rollback":
        return _final(f"its label action is {alert.action or 'not set'}")
    return _find_objection(alert, at) or Verdict("rollback")


def _correct_clock(update: Entry, now: datetime) -> Entry:
    """The engine takes the times of an update from the machine that ran it. One that ended in the future ran on a
    machine whose clock is fast by this much at least: without this, an alert about its release would be older than it.
    """
    ahead = (update.ended or update.started) - now
    if ahead <= timedelta(0):
        return update
    return replace(update, started=update.started - ahead, ended=update.ended and update.ended - ahead)


def _final(why: str) -> Verdict:
    return Verdict("report", why)


# -- lockdown ------------------------------------------------------------------------------------------


def _find_lockdown_objection(at: Situation) -> Verdict | None:
    if at.lockdown and not at.lockdown.over(at.now):
        why = f"locked down already, until {at.lockdown.until:%Y-%m-%d %H:%M:%S} UTC"
        return wait("locked", why, (at.lockdown.until - at.now).total_seconds())
    ended = _last_automatic_lockdown(at.updates)
    rest = at.lockdown_cooldown_seconds - (at.now - ended).total_seconds() if ended else 0
    if ended is None or rest <= 0:
        return None
    why = (
        f"the last automatic lockdown ended at {ended:%Y-%m-%d %H:%M} UTC, and another one begins automatically only "
        f"{_duration(at.lockdown_cooldown_seconds)} after it. Decide: `runbook security lockdown`"
    )
    return wait("lockdown cooldown", why, rest, at.escalation)


def _last_automatic_lockdown(updates: Iterable[Entry]) -> datetime | None:
    """When it ended: by its clock, or by the update that removed it."""
    newer: Entry | None = None
    for update in updates:
        written = update.config.get(LOCKDOWN)
        if written and (lockdown := Lockdown.model_validate(written)).automatic:
            return min(lockdown.until, newer.started) if newer else lockdown.until
        newer = update
    return None


# -- rollback ------------------------------------------------------------------------------------------


def _find_objection(alert: Alert, at: Situation) -> Verdict | None:
    release, settings = at.release, at.settings
    if not settings.enabled:
        return _final("automatic rollback is off (runbook:monitoring.rollback.enabled)")
    if release is None or not at.updates:
        return _final("nothing was ever released")
    newest = at.updates[0]
    if newest.result != "succeeded":
        return wait("unfinished", f"the last update {newest.result or 'did not end'}: an operator has to finish it")
    if release.action == "rollback":
        return _final(f"revision {release.revision} is a rollback already (of revision {release.rollback_of})")
    deployed = _deployed(release, at.updates)
    if deployed is None or deployed.ended is None:
        return _final(f"the history does not say when revision {release.revision} was deployed")
    age = (at.now - deployed.ended).total_seconds()
    if age > settings.release_window_seconds:
        return _final(
            f"revision {release.revision} runs for {_duration(age)}: failures are blamed on a release for "
            f"{_duration(settings.release_window_seconds)}"
        )
    # An alert that names the release is about it, whatever the clocks of Prometheus and of the operator's machine say.
    accuses = _accuses(alert, release, at.updates)
    if alert.hint.starts_at < deployed.started and not accuses:
        return _final(f"it fired before revision {release.revision} was released")
    if other := _find_accused(alert, release, at.updates):
        return _final(f"it is about {_name(other)}, and {_name(release)} runs")
    # It may go on firing from the time when the same release ran before.
    timed = not accuses or (alert.hint.starts_at < deployed.started and _ran_before(alert, release, at.updates))
    return _find_obstacle(alert, release, deployed.ended if timed else None, at)


def _find_obstacle(alert: Alert, release: Release, ended: datetime | None, at: Situation) -> Verdict | None:
    """What is in the way for a time. `ended`: of the release's update, where only time says what the alert is about."""
    if at.maintenance:
        return wait("maintenance", f"maintenance mode is on ({at.maintenance.reason})")
    if ended and alert.hint.starts_at < ended:
        # Another release served when it began. If it is about that one, it ends soon.
        longest = at.windows.get(alert.name, max(at.windows.values(), default=0.0))
        rest = longest - (at.now - ended).total_seconds()
        if rest > 0:
            why = f"it began before revision {release.revision} was deployed, and may be about one before"
            return wait("deployed", why, rest)
    if (last := _last_rollback(at.updates)) and last.ended:
        rest = at.settings.cooldown_seconds - (at.now - last.ended).total_seconds()
        if rest > 0:
            why = f"the last rollback (revision {last.revision}) is within the cooldown: {_duration(rest)} left"
            return wait("cooldown", why, rest)
    return None


_ACCUSING = ("revision", "git", "release")
"""Labels or annotations that name a release, the surest first. The application's metrics have `git` and `release`."""


def _find_accused(alert: Alert, release: Release, updates: Iterable[Entry]) -> Release | None:
    """The other release that the alert names. None when it names the one that runs, none at all or an unknown one."""
    known = [release, *(update.release for update in updates if update.release)]
    for key in _ACCUSING:
        if named := [one for one in known if _names(alert, key, one)]:
            return None if any(one.revision == release.revision for one in named) else named[0]
    return None


def _accuses(alert: Alert, release: Release, updates: Iterable[Entry]) -> bool:
    """Whether the alert names the release that runs, by a name that is not also that of the release before."""
    before = next((one for update in updates if (one := update.release) and one.revision != release.revision), None)
    return any(_names(alert, key, release) and not (before and _names(alert, key, before)) for key in _ACCUSING)


def _ran_before(alert: Alert, release: Release, updates: Iterable[Entry]) -> bool:
    """Whether the alert names an earlier revision as well: the same release was deployed, taken back and deployed."""
    earlier = [one for update in updates if (one := update.release) and one.revision < release.revision]
    return any(_names(alert, key, one) for one in earlier for key in _ACCUSING)


def _names(alert: Alert, key: str, release: Release) -> bool:
    said = alert.labels.get(key) or alert.annotations.get(key)
    if not said:
        return False
    if key == "git":
        return said == release.git or _abbreviates(said, release.git) or _abbreviates(release.git, said)
    return said == (str(release.revision) if key == "revision" else release.version)


def _abbreviates(short: str, commit: str) -> bool:
    return len(short) >= 7 and commit.startswith(short)


def _name(release: Release) -> str:
    return f"revision {release.revision} (git {release.git})"


def _deployed(release: Release, updates: Iterable[Entry]) -> Entry | None:
    """The update that deployed it: later ones (rotations, maintenance) have the same revision."""
    found = None
    for update in updates:
        if update.revision == release.revision:
            found = update if update.succeeded else found
        elif found:
            break
    return found


def _last_rollback(updates: Iterable[Entry]) -> Entry | None:
    return next((update for update in updates if update.action == "rollback"), None)


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 7200
        else f"{seconds / 60:.0f} min"
        if seconds >= 120
        else f"{seconds:.0f} s"
    )
