"""From a backup in the store to a database that is proven to be the one that was backed up."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from tasks.backup.encryption import identities
from tasks.backup.manifest import Manifest
from tasks.backup.scratch import scratch
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.progress import say, step
from tasks.restore.compare import built_anew, by_root, differences
from tasks.restore.fetch import fetch
from tasks.restore.integrity import Integrity
from tasks.restore.restore_target import RestoreTarget
from tasks.store import Store

Step = Callable[[str], AbstractContextManager[None]]
HALF_MADE = "half_made"
"""In a database's note: the backup that it is being restored from. Such a database may be dropped."""


@dataclass(frozen=True)
class Restored:
    """What was found in the finished database."""

    rows: dict[str, Any]
    integrity: Integrity | None
    needs: tuple[str, ...] = ()
    """What the role that restores could not restore, and why."""


def restore(
    environment: Environment,
    store: Store,
    manifest: Manifest,
    place: RestoreTarget,
    name: str,
    *,
    jobs: int,
    timed: Step = step,
    test: bool = False,
) -> Restored:
    """Make the database `name` out of the backup, compare it with the manifest, and say what was found.

    A database that is not what the manifest promises, or that was not finished, is removed. A test replaces a
    worthless one of that name, and has the engine check the new one.
    """
    place.accept(manifest)
    keys = identities(environment)
    with scratch(environment) as folder, ThreadPoolExecutor(jobs) as beside:
        created = beside.submit(_create, place, name, replace=test)
        try:
            with timed("fetch"):
                fetch(store, manifest, folder, keys, jobs)
            created.result()
            place.set_note(name, {HALF_MADE: manifest.id})
            with timed("restore"):
                needs = place.load(name, folder, manifest, jobs)
                place.set_mark(name, None)  # of a restore before the backup
            with timed("check"):
                found = _checked(place, name, manifest, beside, test=test)
            return replace(found, needs=needs)
        except BaseException:
            if created.exception() is None:
                _remove(place, name)  # and end the sessions in it
            raise


def _checked(place: RestoreTarget, name: str, manifest: Manifest, beside: Executor, *, test: bool) -> Restored:
    compared = beside.submit(compare, place, name, manifest)
    # It waits for the comparison, which has to be before it in the queue.
    sound = beside.submit(place.integrity, name, compared.exception) if test else None
    analyzed = beside.submit(place.analyze, name)
    found = Restored(compared.result(), sound and sound.result())
    analyzed.result()
    return found


def half_made(place: RestoreTarget) -> list[str]:
    """What killed restores left beside the live database."""
    prefix = place.copy_name("restoring", "")
    return sorted(name for name in place.databases() if name.startswith(prefix) and _worthless(place, name))


def new_half_made(place: RestoreTarget) -> str:
    """A new name for a database to restore into. Never a used one: a killed restore's pg_restore may still run."""
    for name in half_made(place):
        place.drop(name)
    return place.copy_name("restoring", secrets.token_hex(2))


def require_worthless(place: RestoreTarget) -> None:
    """Refuse a test database that holds data which no restore test made."""
    if place.live in place.databases() and not _worthless(place, place.live):
        raise Refused(
            "database_exists",
            f"RESTORE_DATABASE_URL: {place.shown(place.live)} holds tables that no restore test made: it was not "
            "changed. Name a database that may be deleted",
        )


def _create(place: RestoreTarget, name: str, *, replace: bool) -> None:
    if replace:
        place.drop(name)
    place.create(name)


def _worthless(place: RestoreTarget, name: str) -> bool:
    return HALF_MADE in (place.note(name) or {}) or not place.rows(name)


def compare(place: RestoreTarget, name: str, manifest: Manifest) -> dict[str, Any]:
    """Rows and sentinel against the manifest."""
    found = place.rows(name)
    if wrong := differences(by_root(manifest.tables, place.roots(name)), found):
        raise TaskError(
            "rows_differ", f"backup {manifest.id} restores with different rows than were backed up: {'; '.join(wrong)}"
        )
    if not place.has_sentinel(name, manifest.sentinel.token):
        raise TaskError(
            "sentinel_missing",
            f"backup {manifest.id}: the row written just before it (token {manifest.sentinel.token}) is not in the "
            "restored database: the dump is of another moment, or of another database",
        )
    return {"tables": len(found), "rows": sum(found.values())}


def check_release(
    place: RestoreTarget, manifest: Manifest, level_query: str | None, *, migrated: bool = False
) -> dict[str, Any]:
    """What a release finds through its own connection: the manifest's schema level, or after migrations a later one."""
    found = place.find_as_release(manifest, level_query)
    promised, level = manifest.schema_level, found["schema_level"]
    where = f" (as {found['role']}, search_path {found['search_path']})" if "role" in found else ""
    if promised is not None and level is not None and (level < promised or (level > promised and not migrated)):
        raise TaskError(
            "level_differs",
            f"backup {manifest.id} is of schema level {promised}, and the release finds level {level} in what was "
            f"restored{where}: it looks in another place than the application did. Check search_path in the settings "
            "of the database and of its roles, and the parameters of DATABASE_URL",
        )
    path = manifest.application and manifest.application.search_path
    if path is not None and found.get("search_path") != path:
        raise TaskError(
            "level_differs",
            f"backup {manifest.id}: the application looked for its tables along {path!r}, and the release of the test "
            f"looks along {found.get('search_path')!r}: settings of the database or of its roles did not come back",
        )
    if migrated and (anew := built_anew(manifest.tables, place.rows(place.live))):
        raise TaskError(
            "level_differs",
            f"backup {manifest.id}: the release did not find the tables of the backup, it made its own: {anew}. Check "
            "search_path and the parameters of DATABASE_URL",
        )
    return found


def _remove(place: RestoreTarget, name: str) -> None:
    try:
        place.drop(name)
    except TaskError as error:
        # What went wrong before matters more; the next run finds the half-made one by its note.
        say(f"warning: the half-made database {name} could not be removed: {error}")
