"""Whether an alert takes the release back: pure, over the alert, the history and the settings.

Failures are blamed on a release only while it is new. Whoever can make an alert fire (an attacker, a database that is
away) must not be able to move a shop back and forth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ops.controller.alerts import Alert
from ops.stack.history import Entry
from settings import Lockdown, Maintenance, Release
from settings.monitoring import Rollback


@dataclass(frozen=True)
class Situation:
    """What is known when an alert comes in."""

    now: datetime
    namespace: str
    settings: Rollback
    maintenance: Maintenance | None
    lockdown: Lockdown | None
    release: Release | None
    updates: Sequence[Entry]
    """What ran the program with a release, newest first."""


@dataclass(frozen=True)
class Verdict:
    """What is done, and why not more."""

    act: Literal["rollback", "lockdown", "tell"]
    why: str = ""


def decide(alert: Alert, at: Situation) -> Verdict:
    if alert.namespace != at.namespace:
        return _tell(f"it is about {alert.namespace or 'no namespace'}, and this is {at.namespace}")
    if alert.action == "lockdown":
        if at.lockdown and not at.lockdown.over(at.now):
            return _tell(f"locked down already, until {at.lockdown.until:%Y-%m-%d %H:%M:%S} UTC")
        return Verdict("lockdown")
    if alert.action != "rollback":
        return _tell(f"it asks for {alert.action or 'nothing'}")
    against = _speaks_against(alert, at)
    return _tell(against) if against else Verdict("rollback")


def _tell(why: str) -> Verdict:
    return Verdict("tell", why)


def _speaks_against(alert: Alert, at: Situation) -> str | None:
    release, settings = at.release, at.settings
    if not settings.enabled:
        return "rollbacks are not automatic here (runbook:monitoring.rollback.enabled)"
    if release is None or not at.updates:
        return "nothing was ever released"
    if at.maintenance:
        return f"maintenance mode is on ({at.maintenance.reason})"
    newest = at.updates[0]
    if newest.result != "succeeded":
        return f"the last update {newest.result or 'did not end'}: somebody is, or should be, at work on it"
    if release.action == "rollback":
        return f"revision {release.revision} is a rollback already (of revision {release.rollback_of})"
    deployed = _deployed(release, at.updates)
    if deployed is None or deployed.ended is None:
        return f"nobody can tell since when revision {release.revision} runs"
    age = (at.now - deployed.ended).total_seconds()
    if age > settings.release_window_seconds:
        return (
            f"revision {release.revision} runs for {_spoken(age)}: failures are blamed on a release for "
            f"{_spoken(settings.release_window_seconds)}"
        )
    if alert.hint.starts_at < deployed.started:
        return f"it fired before revision {release.revision} was released"
    if (last := _last_rollback(at.updates)) and last.ended:
        rest = timedelta(seconds=settings.cooldown_seconds) - (at.now - last.ended)
        if rest > timedelta():
            return f"the last rollback (revision {last.revision}) is not long ago: {_spoken(rest.total_seconds())} left"
    return None


def _deployed(release: Release, updates: Iterable[Entry]) -> Entry | None:
    """The update that brought it: later ones (rotations, maintenance) carry its revision too."""
    found = None
    for update in updates:
        if update.revision == release.revision:
            found = update if update.succeeded else found
        elif found:
            break
    return found


def _last_rollback(updates: Iterable[Entry]) -> Entry | None:
    return next((update for update in updates if update.action == "rollback"), None)


def _spoken(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 7200
        else f"{seconds / 60:.0f} min"
        if seconds >= 120
        else f"{seconds:.0f} s"
    )
