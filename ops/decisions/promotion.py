"""What one stack has served and may be released on another, and how the two stacks differ beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ops.decisions.quarantine import find_quarantined
from ops.decisions.release_state import read_release_state
from ops.decisions.rollback_target import compare_leaves, flatten
from ops.errors import Refused
from ops.stack.history import QUARANTINE, RELEASE, ROTATED, Entry
from settings import Quarantined, Release
from settings.lockdown import LOCKDOWN
from settings.maintenance import MAINTENANCE

_NOT_COMPARED = (RELEASE, QUARANTINE, ROTATED, "encryptionsalt", "kubernetes:context")


@dataclass(frozen=True)
class Candidate:
    """A release that its stack has served."""

    release: Release
    served: timedelta
    """How long, without a failed update since."""


def find_candidate(
    stack: str, config: Mapping[str, Any], updates: Sequence[Entry], least: timedelta, now: datetime
) -> Candidate:
    """The release that `stack` serves, or a Refused that says why it is not proven.

    `updates`, newest first, reach back to the release's own update. Its checks (rehearsal, migration, smoke test,
    post-deploy commands) are part of that update, which ends as succeeded only when they passed.
    """
    newest = updates[0] if updates else None
    state = read_release_state(config, newest)
    release = state.release
    if newest is None or release is None:
        raise Refused(f"{stack} was never deployed: `runbook deploy IMAGE --stack {stack}` first.")
    if not state.finished:
        raise Refused(f"Revision {release.revision} of {stack} is not finished: run its command again.")
    if not newest.succeeded:
        raise Refused(f"The last update of {stack} {newest.result} ({newest.message.strip()}): mend {stack} first.")
    for key, what in ((MAINTENANCE, "in maintenance mode"), (LOCKDOWN, "locked down")):
        if newest.config.get(key):
            raise Refused(f"{stack} is {what}: it does not serve, and so proves nothing.")
    if bad := find_quarantined(release.digest, state.quarantine):
        raise Refused(f"The image that {stack} runs is quarantined there since revision {bad.revision}: {bad.reason}")
    since = _served_since(updates, release)
    if since is None:
        raise Refused(f"The update of {stack} that released revision {release.revision} is not in its history.")
    served = now - since
    if served < least:
        left = round((least - served).total_seconds() / 60 + 0.5)
        raise Refused(
            f"{stack} serves revision {release.revision} for {_minutes(served)}; guards.promoteAfterMinutes asks for "
            f"{_minutes(least)}: try again in {left} min."
        )
    return Candidate(release, served)


def _served_since(updates: Sequence[Entry], release: Release) -> datetime | None:
    """When the image began to serve: the first success after the last update that failed or ran another image."""
    since = None
    for entry in updates:
        if entry.kind != "update":
            continue
        if not entry.succeeded or entry.release is None or entry.release.digest != release.digest:
            break
        since = entry.ended or entry.started
    return since


def _minutes(time: timedelta) -> str:
    return f"{int(time.total_seconds() // 60)} min"


def refuse_quarantined(stack: str, release: Release, quarantine: Sequence[Quarantined]) -> None:
    """Refuse a digest that is on the other stack's list."""
    if bad := find_quarantined(release.digest, quarantine):
        raise Refused(
            f"{stack} has this image in quarantine since revision {bad.revision}: {bad.reason}. "
            f"`runbook quarantine lift {release.digest[:19]} --stack {stack}` when that was not its fault."
        )


def refuse_after_triggers(source: str, target: str, release: Release, fired: Sequence[str]) -> None:
    """Refuse a release during which a trigger of a rollback or a lockdown fired on the other stack."""
    if fired:
        more = f" and {len(fired) - 3} more" if len(fired) > 3 else ""
        raise Refused(
            f"While {source} served revision {release.revision}, a trigger fired: {'; '.join(fired[:3])}{more}. "
            f"Find the cause first; if it was not the release, `runbook deploy {release.image} --stack {target}` "
            "releases it all the same. Nothing was changed."
        )


def compare_stacks(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What differs beside the release, (path, value there, value here); secrets by name only."""
    return compare_leaves(_settings(source), _settings(target))


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _NOT_COMPARED:
            continue
        if isinstance(value, Mapping) and "secure" in value:
            yield key, "set"
        else:
            yield from flatten(key, value)
