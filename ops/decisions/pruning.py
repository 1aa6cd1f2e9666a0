"""Which updates of a stack's history may be deleted: never what a rollback or the quarantine needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ops.errors import Refused
from ops.stack.history import Entry
from settings import Quarantined

LEAST = 10
"""Fewest updates that are kept."""
_TARGETS = 3
"""Releases that succeeded, the one that serves among them, which stay targets of a rollback however old they are."""


@dataclass(frozen=True)
class Stored:
    """An update and the name of its files, without their endings."""

    name: str
    entry: Entry


@dataclass(frozen=True)
class Pruning:
    """What is deleted, oldest last, and what is older than the limit and stays."""

    delete: Sequence[Stored]
    spared: Sequence[tuple[Stored, str]]
    """With the reason."""


def choose_updates(updates: Sequence[Stored], keep: int, quarantine: Sequence[Quarantined]) -> Pruning:
    """`updates`: the whole history, newest first. Raises Refused for a number that is too small."""
    if keep < LEAST:
        raise Refused(f"--keep {keep} is below {LEAST}: rollbacks choose among the updates. Nothing was changed.")
    reasons = {**_find_quarantined(updates, quarantine), **_find_targets(updates)}
    older = updates[keep:]
    return Pruning(
        delete=[stored for stored in older if stored.name not in reasons],
        spared=[(stored, reasons[stored.name]) for stored in older if stored.name in reasons],
    )


def _find_targets(updates: Sequence[Stored]) -> dict[str, str]:
    """Of the newest releases that succeeded: the newest update, which a rollback restores, and the one that released it
    and says how long it has served."""
    newest: dict[str, Stored] = {}
    oldest: dict[str, Stored] = {}
    for stored in updates:
        release = stored.entry.release
        if release is None or not stored.entry.succeeded:
            continue
        if release.digest not in newest and len(newest) == _TARGETS:
            break
        first = newest.setdefault(release.digest, stored)
        if first.entry.revision == release.revision:
            oldest[release.digest] = stored
    return {
        stored.name: f"revision {stored.entry.revision} is a target of rollbacks"
        for stored in (*newest.values(), *oldest.values())
    }


def _find_quarantined(updates: Sequence[Stored], quarantine: Sequence[Quarantined]) -> dict[str, str]:
    """Every update with a digest that is quarantined, or of the revision for which it is."""
    digests = {item.digest for item in quarantine}
    revisions = {item.revision for item in quarantine}
    return {
        stored.name: f"revision {release.revision} is why a digest is quarantined"
        for stored in updates
        if (release := stored.entry.release) and (release.digest in digests or release.revision in revisions)
    }
