"""From a backup in the store to a database that is proven to be the one that was backed up."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tasks.backup.manifest import Manifest
from tasks.backup.scratch import scratch
from tasks.backup.seal import identities
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.progress import say, step
from tasks.restore.compare import differences
from tasks.restore.fetch import fetch
from tasks.restore.place import Place
from tasks.store import Store

Step = Callable[[str], AbstractContextManager[None]]
HALF_MADE = "half_made"
"""In a database's note: the backup that it is being made of. Nobody needs such a database."""


def restore(
    environment: Environment,
    store: Store,
    manifest: Manifest,
    place: Place,
    name: str,
    *,
    jobs: int,
    timed: Step = step,
) -> dict[str, Any]:
    """Make the database `name` out of the backup, compare it with the manifest, and say what was found.

    A database that is not what the manifest promises, or that was not finished, is removed.
    """
    place.accept(manifest)
    keys = identities(environment)
    with scratch(environment) as folder:
        with timed("fetch"):
            fetch(store, manifest, folder, keys, jobs)
        place.create(name)
        try:
            place.set_note(name, {HALF_MADE: manifest.id})
            with timed("restore"):
                place.load(name, folder, manifest, jobs)
            with timed("compare"):
                return compare(place, name, manifest)
        except BaseException:
            _remove(place, name)
            raise


def half_made(place: Place) -> list[str]:
    """What killed restores left beside the live database."""
    prefix = place.copy_name("restoring", "")
    return sorted(name for name in place.databases() if name.startswith(prefix) and _worthless(place, name))


def new_half_made(place: Place) -> str:
    """A name for a database that is being made. Never one of before: a killed restore's pg_restore may still run."""
    for name in half_made(place):
        place.drop(name)
    return place.copy_name("restoring", secrets.token_hex(2))


def make_room(place: Place) -> None:
    """Remove what the last restore test left in the throw-away database; refuse if it holds anything else."""
    if place.live in place.databases():
        if not _worthless(place, place.live):
            raise Refused(
                "database_exists",
                f"RESTORE_DATABASE_URL: {place.shown(place.live)} holds tables that no restore test made: it was not "
                "touched. Name a database to throw away",
            )
        place.drop(place.live)


def _worthless(place: Place, name: str) -> bool:
    return HALF_MADE in (place.note(name) or {}) or not place.rows(name)


def compare(place: Place, name: str, manifest: Manifest) -> dict[str, Any]:
    """Rows and sentinel against the manifest."""
    found = place.rows(name)
    if wrong := differences(manifest.tables, found):
        raise TaskError(
            "rows_differ", f"backup {manifest.id} does not restore to what was backed up: {'; '.join(wrong)}"
        )
    if not place.has_sentinel(name, manifest.sentinel.token):
        raise TaskError(
            "sentinel_missing",
            f"backup {manifest.id}: the row written just before it (token {manifest.sentinel.token}) is not in the "
            "restored database: the dump is of another moment, or of another database",
        )
    return {"tables": len(found), "rows": sum(found.values())}


def _remove(place: Place, name: str) -> None:
    try:
        place.drop(name)
    except TaskError as error:
        # What went wrong before matters more; the next run finds the half-made one by its note.
        say(f"warning: the half-made database {name} could not be removed: {error}")
