"""The revision that a rollback restores, and what it writes into the stack file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ops.decisions.quarantine import find_quarantined, quarantine_change
from ops.decisions.release_state import ReleaseState
from ops.errors import Refused
from ops.stack.history import RELEASE, RESTORED, Entry, History
from settings import Quarantined, Release


def rollback_target(history: History, now: ReleaseState, to: int | None, *, allow_quarantined: bool) -> Entry:
    """The update whose release is restored: revision `to`, or the last good one that ran something else."""
    current = now.release
    if current is None:
        raise Refused("This stack was never deployed: there is nothing to roll back to.")
    if to is not None:
        return _revision_to_restore(history, current, to, now.quarantine, allow_quarantined=allow_quarantined)
    left = {current.rollback_of}
    serves = any(entry.succeeded for entry in history.updates() if entry.revision == current.revision)
    # A `pulumi up` that failed may have changed the release and left its number: then it was good under that number.
    failed = (newest := history.newest_update) is not None and not newest.succeeded
    latest = current.revision if failed else current.revision - 1
    for entry in history.updates():
        release = entry.release
        if release is None:
            continue
        left.add(release.rollback_of)
        if (
            entry.succeeded
            and release.revision <= latest
            and release.revision not in left
            and not find_quarantined(release.digest, now.quarantine)
            and (not serves or release.image != current.image or _differs(entry, history, current.revision))
        ):
            return entry
    raise Refused(
        f"There is no earlier release to go back to: no revision before {current.revision} succeeded with "
        "another image or configuration and is not quarantined (`runbook history` lists them all)."
    )


def _revision_to_restore(
    history: History, current: Release, to: int, quarantine: Sequence[Quarantined], *, allow_quarantined: bool
) -> Entry:
    seen = [entry for entry in history.updates() if entry.revision == to]
    if not seen:
        raise Refused(describe_missing_revision(history, to))
    good = next((entry for entry in seen if entry.succeeded), None)
    if good is None or good.release is None:
        raise Refused(f"Revision {to} never succeeded (its last update: {seen[0].result}): choose one that did.")
    if to == current.revision:
        raise Refused(f"Revision {to} is what runs now; to repair drift run `pulumi up`.")
    if (bad := find_quarantined(good.release.digest, quarantine)) and not allow_quarantined:
        raise Refused(
            f"The image of revision {to} is quarantined ({bad.reason}, revision {bad.revision}). Choose "
            "another revision, or add --allow-quarantined REASON."
        )
    return good


def describe_missing_revision(history: History, revision: int) -> str:
    known = sorted({entry.revision for entry in history.updates() if entry.revision})
    have = f"it has {known[0]} to {known[-1]}" if known else "it was never deployed"
    return f"Revision {revision} does not exist in this stack's history: {have} (`runbook history`)."


def _differs(entry: Entry, history: History, revision: int) -> bool:
    """Whether an entry with the same image ran other services or commands than the revision did."""
    ran = next((other for other in history.updates() if other.revision == revision), None)
    return ran is not None and ran.restored() != entry.restored()


def rollback_changes(
    target: Entry,
    revision: int,
    leaving: Release,
    quarantine: Sequence[Quarantined],
    allow_quarantined: str | None = None,
    restored_from: str | None = None,
) -> dict[str, Any]:
    """Configuration keys that restore the target's release; never secrets, data or ingress."""
    if target.release is None:
        raise ValueError("the target of a rollback has a release")
    release = target.release.model_copy(
        update={
            "revision": revision,
            "migrate": False,
            "action": "rollback",
            "rollback_of": leaving.revision,
            "allow_quarantined": allow_quarantined,
            "without_proof": None,
            "without_checks": None,
            "restored_from": restored_from,
            "restored_over": None,
        }
    )
    return {RELEASE: release.to_config(), **quarantine_change(quarantine), **target.restored()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What differs between two releases with their services and commands: (path, old, new), leaf by leaf."""
    ours = ("revision", "action", "migrate", "rollbackOf", "allowQuarantined", "withoutProof", "withoutChecks")
    ours += ("restoredFrom", "restoredOver")
    ignored = {f"{RELEASE}.{name}" for name in ours}
    before, after = (
        [(k, v) for key in (RELEASE, *RESTORED) for k, v in flatten(key, side.get(key)) if k not in ignored]
        for side in (old, new)
    )
    return compare_leaves(before, after)


def compare_leaves(old: Iterable[tuple[str, Any]], new: Iterable[tuple[str, Any]]) -> list[tuple[str, Any, Any]]:
    """The leaves that differ: (path, old, new), those of the old side first."""
    before, after = dict(old), dict(new)
    paths = [*before, *(path for path in after if path not in before)]
    return [
        (path.removeprefix("runbook:"), before.get(path), after.get(path))
        for path in paths
        if before.get(path) != after.get(path)
    ]


def flatten(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Each leaf of a setting with its path: items of lists by their name, else by their place."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(f"{path}.{key}", item)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, Mapping) else index
            yield from flatten(f"{path}[{name}]", item)
    elif value is not None:
        yield path, value
