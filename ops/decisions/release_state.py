"""What the stack file and the last update say about release, rotations and lockdown: the newer of the two wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.stack.history import QUARANTINE, RELEASE, ROTATED, Entry
from settings import Lockdown, Quarantined, Release, SchemaRange
from settings.lockdown import LOCKDOWN
from settings.maintenance import MAINTENANCE


@dataclass(frozen=True)
class ReleaseState:
    """The release that should run now and the digests that must not."""

    release: Release | None
    quarantine: tuple[Quarantined, ...]
    finished: bool
    """False when the last run was killed: the stack file names a revision that no finished update has."""


def read_release_state(config: Mapping[str, Any], newest: Entry | None) -> ReleaseState:
    """The newer of the stack file and the last update wins: a fresh checkout's stack file may be behind."""
    written = Release.model_validate(config[RELEASE]) if config.get(RELEASE) else None
    recorded = newest.release if newest else None
    stale = recorded is not None and (written is None or written.revision < recorded.revision)
    source = newest.config if stale and newest else config
    return ReleaseState(
        release=recorded if stale else written,
        quarantine=tuple(Quarantined.model_validate(item) for item in source.get(QUARANTINE) or ()),
        finished=written is None or (recorded is not None and written.revision <= recorded.revision),
    )


_ORDER = ("pending", "tested", "dual", "rolled-out", "verified", "retired")
"""The phases of one rotation; `failed` leads back from any but the last."""


def outdated_rotations(config: Mapping[str, Any], newest: Entry | None) -> list[str]:
    """Secrets whose rotation is further in the last update than in the stack file."""
    mine, theirs = config.get(ROTATED) or {}, (newest.config.get(ROTATED) if newest else None) or {}
    return sorted(name for name, state in theirs.items() if _is_further(state, mine.get(name) or {}))


def _is_further(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    begun, known = theirs["startedAt"], mine.get("startedAt", "")
    if begun != known:
        return begun > known
    # One rotation, and the phase that each knows of.
    there, here = theirs.get("phase", "retired"), mine.get("phase", "retired")
    if "failed" in (there, here):
        return there != here and (there == "failed" or there == "retired")
    return _ORDER.index(there) > _ORDER.index(here)


def released_since(config: Mapping[str, Any], newest: Entry | None) -> str | None:
    """The release that the stack file lacks: an operator or the rollback controller made it elsewhere."""
    written = (config.get(RELEASE) or {}).get("revision", 0)
    if newest is None or newest.revision is None or newest.revision <= written:
        return None
    how = newest.written.get("action", "deploy")
    who = newest.who or "an unknown user"
    return f"revision {newest.revision} ({how}) was released since, and the last update was by {who}"


def locked_since(config: Mapping[str, Any], applied: Entry | None, now: datetime) -> str | None:
    """The lockdown that the stack file lacks, and would end. `applied`: the last update that changed something."""
    theirs = applied.config.get(LOCKDOWN) if applied else None
    if not theirs or Lockdown.model_validate(theirs).over(now):
        return None
    mine = config.get(LOCKDOWN)
    if mine and Lockdown.model_validate(mine).since >= Lockdown.model_validate(theirs).since:
        return None
    return f"it is locked down since {theirs['since']} ({theirs['reason']})"


def maintained_since(config: Mapping[str, Any], applied: Entry | None) -> str | None:
    """The maintenance that the stack file lacks, and would end. `applied`: the last update that changed something."""
    theirs = applied.config.get(MAINTENANCE) if applied else None
    return f"maintenance mode is on ({theirs['reason']})" if theirs and not config.get(MAINTENANCE) else None


def find_lockdown(config: Mapping[str, Any], newest: Entry | None, now: datetime) -> Lockdown | None:
    """The lockdown that stands: the newer of the stack file's and the last update's, unless it is over."""
    written = (config.get(LOCKDOWN), newest.config.get(LOCKDOWN) if newest else None)
    found = [lockdown for each in written if each and not (lockdown := Lockdown.model_validate(each)).over(now)]
    return max(found, key=lambda lockdown: lockdown.since, default=None)


def extend_lockdown(wanted: Lockdown, standing: Lockdown | None) -> Lockdown:
    """What replaces the one that stands. An automatic one stays automatic: a client that provoked it must not be
    able to stop backups by having it extended."""
    return wanted.model_copy(update={"automatic": True}) if standing and standing.automatic else wanted


def last_applied(history: Iterable[Entry]) -> Entry | None:
    """The last update that changed something or succeeded: after any other, `runbook` restores the stack file."""
    return next((entry for entry in history if entry.release and (entry.succeeded or entry.changed_something)), None)


def last_good(history: Iterable[Entry]) -> Entry | None:
    """The last update that succeeded: what serves now, also when a later one failed."""
    return next((entry for entry in history if entry.succeeded and entry.release), None)


def next_revision(now: ReleaseState) -> int:
    return (now.release.revision if now.release else 0) + 1


def find_resumable(now: ReleaseState, image: str, schema: SchemaRange) -> Release | None:
    """The release of a killed run, when this is the same deploy again."""
    release = now.release
    same = release is not None and (release.image, release.action) == (image, "deploy")
    return release if same and release and not now.finished and release.schema_ == schema else None


def describe_lockdown(lockdown: Lockdown | None, now: datetime) -> dict[str, Any]:
    """Whether there is a lockdown; one that is over is in the stack file until the next command."""
    if lockdown is None:
        return {"state": "off", "lockdown": None, "secondsLeft": 0}
    left = max(0, round((lockdown.until - now).total_seconds()))
    state = "over" if lockdown.over(now) else "on"
    return {"state": state, "lockdown": lockdown.to_config(), "secondsLeft": left}
