"""A restore over the live database, in steps that can be interrupted anywhere, continued and undone.

The phase follows from the databases beside the live one; nothing else is stored, and every step from one
phase to the next is a single act of the server:

    phase      live database   copy beside it (X: of the backup's id, R: random)
    idle       the old
    preparing  the old         <live>_restoring_…, half-made, worthless
    prepared   the old         <live>_restored_X, the backup's data, checked
    swapped    the backup's    <live>_replaced_R, the old, with all its data
    undone     the old         <live>_undone_R, the backup's data and what was written to it since the swap

prepare: idle → prepared. swap: prepared → swapped. undo: swapped → undone, prepared → idle.
finish: swapped → idle, undone → idle; it is the only one that drops data, and only data that a backup has. A verb
whose work is already done does nothing.

Maintenance mode keeps customers away from prepare to swap, and nothing relies on it: finish looks for rows that were
written after the safety backup, and for others than it has. Then it makes another backup of the database that goes,
reads that one back as well, and names both. After the swap no client finds the replaced database by its name, which
is random. Finish looks only after the server refuses every connection to it, and drops it closed: a client that found
it in another way has written before, which is found, or not at all.

The restored copy carries a mark of the restore in itself, and so has the live database from the swap on, until the
drop is noted in it: a command that was killed in between finds that the restore is done, and does not begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tasks.backup.manifest import Manifest
from tasks.errors import Refused, TaskError
from tasks.progress import say, step
from tasks.restore.compare import OURS, SHOWN, by_root, differences
from tasks.restore.restore_target import ClosedDatabase, RestoreTarget
from tasks.restore.verify import half_made, new_half_made

Phase = Literal["idle", "preparing", "prepared", "swapped", "undone"]
COPIES: dict[str, Phase] = {"restored": "prepared", "replaced": "swapped", "undone": "undone"}
"""Role of the copy beside the live database → the phase that it proves."""
BACKUP, SAFETY = "backup", "safety"
"""What a copy's note and mark have: ids of backups."""
LEFT_OUT, SINCE, READY = "left_out", "since", "ready"
"""What else a note has: what could not be restored, the server's moments before the safety backup and after the
restore."""
FINISHED, LATE, WRITTEN = "finished", "late_backup", "late"
"""What else a mark has: when the replaced database was dropped, and the backup of what the safety backup lacks."""
_LATE_BACKUPS = 3
"""How many backups finish makes of a database that a client goes on writing to."""


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
    left_out: Sequence[str] = ()
    """What the role that restores could not bring back, and why."""
    since: int | None = None
    """The moment at the server from which on the database beside the live one may have what no backup has."""
    last: dict[str, Any] | None = None
    """Which restore the live database came from, when none is going on: {backup, safety, finished}."""
    late_backup: str | None = None
    """Made by finish: of the database that it dropped, which had more than its safety backup."""
    late: Sequence[str] = ()
    """What that was."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def copy(self) -> str:
        """The database beside the live one."""
        found = self.restored or self.replaced or self.undone
        if found is None:
            raise AssertionError(f"phase {self.phase} has no copy")
        return found


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
                of: dict[str, Any] = {role: name}
                state = State(phase, note[BACKUP], note[SAFETY], place.live, **of)
                since = note.get(READY if phase == "undone" else SINCE)
                found.append(replace(state, left_out=note.get(LEFT_OUT, ()), since=since))
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
    mark = place.mark() if place.live in existing else None
    if mark and FINISHED not in mark:
        # Killed between the drop of the replaced database and the note of it.
        late = mark.get(LATE)
        return State("swapped", mark[BACKUP], mark[SAFETY], place.live, late_backup=late, late=mark.get(WRITTEN, ()))
    return State("idle", None, None, place.live, last=mark)


def prepare(
    place: RestoreTarget,
    manifest: Manifest,
    make: Callable[[str], Sequence[str]],
    back_up: Callable[[], Manifest],
) -> State:
    """`make(name)` restores and checks under a name, says what it left out, and leaves nothing when it fails;
    `back_up` is the safety net."""
    name = place.copy_name("restored", part_of(manifest.id))
    place.accept(manifest)
    with place.exclusive():
        now = state(place)
        if now.phase in ("swapped", "undone") or (now.phase == "prepared" and now.backup != manifest.id):
            raise _wrong(now, "prepare")
        place.require_swappable()
        since = place.moment(place.live)
        with step("safety backup of the live database"):
            safety = back_up()
        mark = {BACKUP: manifest.id, SAFETY: safety.id}
        note: dict[str, Any] = {**mark, SINCE: since}
        if now.phase == "prepared":
            say(f"{name} exists already; it has a newer safety backup now")
            place.set_mark(name, mark)
            place.set_note(name, {**(place.note(name) or {}), **note})
        else:
            made = new_half_made(place)
            left_out = make(made)
            place.set_mark(made, mark)
            place.publish(made, name, {**note, LEFT_OUT: list(left_out), READY: place.moment(made)})
        return state(place)


def swap(place: RestoreTarget) -> State:
    with place.exclusive():
        now = state(place)
        if now.phase not in ("prepared", "swapped"):
            raise _wrong(now, "swap")
        if now.phase == "prepared":
            with step(f"{now.copy} takes the place of {place.live}"):
                place.swap(now.copy, _retired_name(place, "replaced", now))
            now = state(place)
        if now.replaced:
            place.keep_jobs(now.replaced)
        return now


def undo(place: RestoreTarget) -> State:
    with place.exclusive():
        now = state(place)
        if now.phase == "swapped" and now.replaced is None:
            raise Refused(
                "restore_phase",
                f"the database that the restore of {now.backup} replaced is dropped already. Its data are in backup "
                f"{now.safety}: `restore finish` ends this restore, then restore that one",
            )
        if now.phase == "swapped":
            with step(f"{now.copy} is {place.live} again"):
                place.swap(now.copy, _retired_name(place, "undone", now))
        elif now.phase in ("preparing", "prepared"):
            # Copies of a backup that never served: the backup has all of it.
            for name in (now.copy, *half_made(place)):
                place.drop(name)
        return state(place)


def finish(place: RestoreTarget, verify: Callable[[str], Manifest], back_up: Callable[[str], Manifest]) -> State:
    """`verify(id)` reads a whole backup again and answers its manifest, or raises; `back_up(name)` makes one."""
    with place.exclusive():
        now = state(place)
        if now.phase in ("preparing", "prepared"):
            raise _wrong(now, "finish")
        if now.phase == "idle":
            return now
        mark: dict[str, Any] = {BACKUP: now.backup, SAFETY: now.safety, LATE: now.late_backup, WRITTEN: now.late}
        finished = {FINISHED: f"{datetime.now(UTC):%FT%TZ}"}
        if now.replaced:
            place.keep_jobs(now.replaced)
        if now.replaced or now.undone:
            for late, written in _close(place, now, verify, back_up):
                mark |= {LATE: late.id, WRITTEN: [*mark[WRITTEN], *written]}
                # Before the drop: the command that continues after a kill has to name it.
                place.set_mark(place.live, mark if now.replaced else mark | finished)
            with step(f"dropping {now.copy}"):
                place.drop(now.copy)
        if now.phase == "swapped":
            place.set_mark(place.live, mark | finished)
        return replace(state(place), late_backup=mark[LATE], late=mark[WRITTEN])


def _close(
    place: RestoreTarget, now: State, verify: Callable[[str], Manifest], back_up: Callable[[str], Manifest]
) -> Iterator[tuple[Manifest, list[str]]]:
    """Close the database that goes, and back it up until it has nothing that no backup has; each backup, and why."""
    kept, since = None, now.since
    if now.phase == "swapped":
        if now.safety is None:
            raise AssertionError("a swapped database without a safety backup")
        with step(f"verifying the safety backup {now.safety}"):
            kept = verify(now.safety)
    made = 0
    while True:
        with place.closed(now.copy) as closed:
            if not (written := _written(closed, kept, since)):
                return
            since = closed.moment()
        # A backup is made by connections of its own.
        place.reopen(now.copy)
        if made == _LATE_BACKUPS:
            break
        made += 1
        with step(f"another backup, of {now.copy}: {'; '.join(written)}"):
            kept = back_up(now.copy)
            verify(kept.id)
        yield kept, written
    raise TaskError(
        "database_in_use",
        f"{now.copy} was written to during each of {_LATE_BACKUPS} backups ({'; '.join(written)}), and is not dropped. "
        "Stop the client that connects to it by this name, and run `restore finish` again",
    )


def _written(closed: ClosedDatabase, kept: Manifest | None, since: int | None) -> list[str]:
    """What a database has that its backup `kept`, or none, has not: changed and new rows by table, and other numbers
    of rows."""
    found = differences(by_root(kept.tables, closed.roots()), closed.rows()) if kept else []
    if since is None:
        return [*found, "it is not known what was written to it"]
    newer = {table: rows for table, rows in closed.written_since(since).items() if rows}
    newer = {table: rows for table, rows in newer.items() if not table.startswith(OURS)}
    found += [f"{table}: {rows} rows newer than the backup" for table, rows in sorted(newer.items())]
    return found if len(found) <= SHOWN else [*found[:SHOWN], f"and {len(found) - SHOWN} tables more"]


def _retired_name(place: RestoreTarget, role: str, now: State) -> str:
    if now.backup is None:
        raise AssertionError(f"phase {now.phase} has no backup")
    return place.retired_name(role, part_of(now.backup))


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
