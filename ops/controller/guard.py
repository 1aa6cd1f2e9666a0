"""Decides whether an alert rolls the release back. Pure: alert, history and settings in, verdict out.

Failures are blamed on a release only while it is new. An attacker or an unavailable database can make alerts fire, and
must not be able to switch a shop between releases.
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
    """The facts at the time of the alert."""

    now: datetime
    namespace: str
    settings: Rollback
    maintenance: Maintenance | None
    lockdown: Lockdown | None
    release: Release | None
    updates: Sequence[Entry]
    """Updates with a release, newest first."""


@dataclass(frozen=True)
class Verdict:
    """What the controller does, and why not more."""

    act: Literal["rollback", "lockdown", "report"]
    why: str = ""
    dry_run: bool = False
    """It would have been done, but the settings ask for a dry run."""


def decide(alert: Alert, at: Situation) -> Verdict:
    if alert.namespace != at.namespace:
        return _report(f"its namespace is {alert.namespace or 'not set'}, and this controller serves {at.namespace}")
    if alert.action == "lockdown":
        if at.lockdown and not at.lockdown.over(at.now):
            return _report(f"locked down already, until {at.lockdown.until:%Y-%m-%d %H:%M:%S} UTC")
        return Verdict("lockdown")
    if alert.action != "rollback":
        return _report(f"its label action is {alert.action or 'not set'}")
    objection = _find_objection(alert, at)
    return _report(objection) if objection else Verdict("rollback")


def _report(why: str) -> Verdict:
    return Verdict("report", why)


def _find_objection(alert: Alert, at: Situation) -> str | None:
    release, settings = at.release, at.settings
    if not settings.enabled:
        return "automatic rollback is off (runbook:monitoring.rollback.enabled)"
    if release is None or not at.updates:
        return "nothing was ever released"
    if at.maintenance:
        return f"maintenance mode is on ({at.maintenance.reason})"
    newest = at.updates[0]
    if newest.result != "succeeded":
        return f"the last update {newest.result or 'did not end'}: an operator has to finish it"
    if release.action == "rollback":
        return f"revision {release.revision} is a rollback already (of revision {release.rollback_of})"
    deployed = _deployed(release, at.updates)
    if deployed is None or deployed.ended is None:
        return f"the history does not say when revision {release.revision} was deployed"
    age = (at.now - deployed.ended).total_seconds()
    if age > settings.release_window_seconds:
        return (
            f"revision {release.revision} runs for {_duration(age)}: failures are blamed on a release for "
            f"{_duration(settings.release_window_seconds)}"
        )
    if alert.hint.starts_at < deployed.started:
        return f"it fired before revision {release.revision} was released"
    if (last := _last_rollback(at.updates)) and last.ended:
        rest = timedelta(seconds=settings.cooldown_seconds) - (at.now - last.ended)
        if rest > timedelta():
            left = _duration(rest.total_seconds())
            return f"the last rollback (revision {last.revision}) is within the cooldown: {left} left"
    return None


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
