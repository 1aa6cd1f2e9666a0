"""What stands when a command of several updates begins the next one, against what it judged at its start.

Between two updates the engine's lock is free: the rollback controller or an operator may have changed the stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ops.stack.history import QUARANTINE, RELEASE, ROTATED, Entry
from settings.lockdown import LOCKDOWN
from settings.maintenance import MAINTENANCE

_OURS = "runbook:"


def describe_change(judged: Entry | None, found: Entry | None) -> str | None:
    """What an update since the judged one changed, in a sentence; None where the same stands.

    Both are the newest update that the history had. An update that changed no setting of the stack is no change.
    """
    if found is None or (judged and (judged.started, judged.message) == (found.started, found.message)):
        return None
    changes = [*_list_changes(judged.config if judged else {}, found.config)]
    if not changes:
        return None
    return f"{'; '.join(changes)} ({found.message.strip() or found.kind}{_by(found)})"


def _by(entry: Entry) -> str:
    return f", {entry.who}" if entry.who and entry.who not in entry.message else ""


def _list_changes(judged: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    if judged.get(RELEASE) != found.get(RELEASE):
        yield f"{_release(found)} runs instead of {_release(judged)}"
    now, before = (len(config.get(QUARANTINE) or ()) for config in (found, judged))
    if judged.get(QUARANTINE) != found.get(QUARANTINE):
        yield f"the quarantine lists {now} digests, not {before}"
    for key, begun, ended in (
        (LOCKDOWN, "the stack was locked down", "the lockdown was ended"),
        (MAINTENANCE, "maintenance began", "maintenance ended"),
    ):
        if judged.get(key) != found.get(key):
            yield begun if found.get(key) else ended
    if rotated := _differing(judged.get(ROTATED) or {}, found.get(ROTATED) or {}):
        yield f"{', '.join(rotated)} was rotated"
    named = {RELEASE, QUARANTINE, LOCKDOWN, MAINTENANCE, ROTATED}
    for key in _differing(judged, found):
        if key.startswith(_OURS) and key not in named:
            yield f"{key} was changed"


def _release(config: Mapping[str, Any]) -> str:
    release = config.get(RELEASE)
    return f"revision {release['revision']}" if isinstance(release, Mapping) and "revision" in release else "no release"


def _differing(judged: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {*judged, *found} if judged.get(key) != found.get(key))
