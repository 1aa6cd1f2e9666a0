"""A restore over the live database, in steps that can be interrupted anywhere, continued and undone.

The phase follows from the databases beside the live one; nothing else is stored, and every step from one
phase to the next is a single act of the server:

    phase      live database   copy beside it (X: of the backup's id)
    idle       the old
    preparing  the old         <live>_restoring_…, half-made, worthless
    prepared   the old         <live>_restored_X, the backup's data, checked
    swapped    the backup's    <live>_replaced_X, the old, with all its data
    undone     the old         <live>_undone_X, the backup's data and what was written to it since the swap

prepare: idle → prepared. swap: prepared → swapped. undo: swapped → undone, prepared → idle.
finish: swapped → idle, undone → idle; it is the only one that drops data, and only data that a backup has (or that
the operator undid). A verb whose work is already done does nothing.

No client may write to the live database from prepare to swap (maintenance mode): what is written after the safety
backup would be in the replaced database alone. finish therefore compares it with its safety backup before the drop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tasks.backup.manifest import Manifest
from tasks.errors import Refused
from tasks.progress import say, step
from tasks.restore.compare import differences
from tasks.restore.restore_target import RestoreTarget
from tasks.restore.verify import half_made, new_half_made

Phase = Literal["idle", "preparing", "prepared", "swapped", "undone"]
COPIES: dict[str, Phase] = {"restored": "prepared", "replaced": "swapped", "undone": "undone"}
"""Role of the copy beside the live database → the phase that it proves."""
BACKUP, SAFETY = "backup", "safety"
"""What a copy's note has: ids of backups."""


@dataclass(frozen=True)
class State:
    """The state of a restore in place, as found on the server."""

    phase: Phase
    backup: str | None
    """The backup that is being restored."""
    safety: str | None
    """The backup of the old database, taken before anything was changed."""
    live: str
    restored: str | None = None
    replaced: str | None = None
    undone: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def copy(self) -> str:
        """The database beside the live one."""
        found = self.restored or self.replaced or self.undone
        if found is None:
            raise AssertionError(f"phase {self.phase} has no copy")
        return found

    @property
    def part(self) -> str:
        return self.copy.rsplit("_", 1)[1]


def part_of(backup: str) -> str:
    """The part of a backup's id in database names: time and suffix, without punctuation."""
    when, _, rest = backup.partition("-")
    return f"{when}{rest.rsplit('-', 1)[-1]}".lower()


def state(place: RestoreTarget) -> State:
    existing = place.databases()
    found: list[State] = []
    for role, phase in COPIES.items():
        prefix = place.copy_name(role, "")
        for name in sorted(name for name in existing if name.startswith(prefix)):
            # A database that has this name by chance has no such note.
            note = place.note(name) or {}
            if SAFETY in note:
                found.append(State(phase, note[BACKUP], note[SAFETY], place.live, **{role: name}))
    if len(found) > 1:
        raise Refused(
            "restore_ambiguous",
            f"{' and '.join(one.copy for one in found)} both have a note of a restore of {place.live}: "
            "rename the one that is not part of it",
        )
    if found:
        return found[0]
    if leftovers := half_made(place):
        return State("preparing", None, None, place.live, restored=leftovers[0])
    return State("idle", None, None, place.live)


def prepare(
    place: RestoreTarget,
    manifest: Manifest,
    make: Callable[[str], None],
    back_up: Callable[[], Manifest],
) -> State:
    """`make(name)` restores and checks under a name and leaves nothing when it fails; `back_up` is the safety net."""
    name = place.copy_name("restored", part_of(manifest.id))
    place.accept(manifest)
    with place.exclusive():
        now = state(place)
        if now.phase in ("swapped", "undone") or (now.phase == "prepared" and now.backup != manifest.id):
            raise _wrong(now, "prepare")
        with step("safety backup of the live database"):
            safety = back_up()
        note = {BACKUP: manifest.id, SAFETY: safety.id}
        if now.phase == "prepared":
            say(f"{name} exists already; it has a newer safety backup now")
            place.set_note(name, note)
        else:
            made = new_half_made(place)
            make(made)
            place.publish(made, name, note)
        return state(place)


def swap(place: RestoreTarget) -> State:
    with place.exclusive():
        now = state(place)
        if now.phase == "swapped":
            return now
        if now.phase != "prepared":
            raise _wrong(now, "swap")
        with step(f"{now.copy} takes the place of {place.live}"):
            place.swap(now.copy, place.copy_name("replaced", now.part))
        return state(place)


def undo(place: RestoreTarget) -> State:
    with place.exclusive():
        now = state(place)
        if now.phase == "swapped":
            with step(f"{now.copy} is {place.live} again"):
                place.swap(now.copy, place.copy_name("undone", now.part))
        elif now.phase in ("preparing", "prepared"):
            # Copies of a backup that never served: the backup has all of it.
            for name in (now.copy, *half_made(place)):
                place.drop(name)
        return state(place)


def finish(place: RestoreTarget, verify: Callable[[str], Manifest]) -> State:
    """`verify(id)` reads a whole backup again and answers its manifest, or raises."""
    with place.exclusive():
        now = state(place)
        if now.phase in ("preparing", "prepared"):
            raise _wrong(now, "finish")
        if now.phase == "swapped":
            if now.safety is None:
                raise AssertionError("a swapped database without a safety backup")
            with step(f"verifying the safety backup {now.safety}"):
                safety = verify(now.safety)
            if missing := differences(safety.tables, place.rows(now.copy)):
                raise Refused(
                    "safety_outdated",
                    f"{now.copy} differs from its safety backup {now.safety} ({'; '.join(missing)}): it was written "
                    f"to after that backup. Nothing was dropped. Make another backup of it (DATABASE_URL="
                    f"{place.shown(now.copy)}, backup create --kind manual) and drop it by hand, or `restore undo`",
                )
        if now.phase != "idle":
            with step(f"dropping {now.copy}"):
                place.drop(now.copy)
        return state(place)


NEXT: dict[Phase, str] = {
    "idle": "`restore prepare --backup ID` comes first",
    "preparing": "`restore prepare` was interrupted: run it again, or `restore undo`",
    "prepared": "`restore swap` continues it, `restore undo` cancels it",
    "swapped": "`restore finish` keeps it, `restore undo` puts the old database back",
    "undone": "`restore finish` drops the undone copy; after that a new restore can begin",
}


def _wrong(now: State, verb: str) -> Refused:
    of = f" (backup {now.backup})" if now.backup else ""
    return Refused(
        "restore_phase", f"restore {verb} is not possible in phase {now.phase!r}{of} of {now.live}: {NEXT[now.phase]}"
    )
