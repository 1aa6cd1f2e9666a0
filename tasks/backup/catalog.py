"""Which backups there are: those with a manifest, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from tasks.backup.manifest import FOLDER, Manifest, checked_id, folder, manifest_key
from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Missing, Store

_READERS = 8


def manifests(store: Store) -> list[Manifest]:
    """Every backup, newest first. One whose manifest cannot be read is named on standard error and left out."""

    def read(backup: str) -> Manifest | None:
        try:
            return _read(store, backup)
        except Missing:  # deleted since it was listed
            return None
        except TaskError as error:
            if error.code != "manifest_invalid":
                raise
            say(f"warning: {error}")
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(read, finished(store))
        return sorted(filter(None, found), key=lambda manifest: (manifest.created_at, manifest.id), reverse=True)


def finished(store: Store) -> list[str]:
    """The ids of all backups with a manifest."""
    return [id_ for id_, keys in contents(store).items() if manifest_key(id_) in keys]


def newest_first(store: Store) -> Iterator[Manifest]:
    """Every backup, each read when it is needed. The ids of one second are in no order: their snapshots' times are."""
    for _, ids in groupby(sorted(finished(store), reverse=True), lambda backup: backup.partition("-")[0]):
        yield from sorted((find(store, backup) for backup in ids), key=lambda one: one.created_at, reverse=True)


def contents(store: Store) -> dict[str, list[str]]:
    """The keys below each backup's folder, of half-made ones too."""
    found: dict[str, list[str]] = {}
    for entry in store.entries(FOLDER):
        id_, slash, _ = entry.key.removeprefix(FOLDER).partition("/")
        if slash:
            found.setdefault(id_, []).append(entry.key)
    return found


def find(store: Store, backup: str) -> Manifest:
    """One backup by its id; `manifest_missing` says whether there is none of it or only half."""
    try:
        return _read(store, checked_id(backup))
    except Missing:
        half = next(store.entries(folder(backup)), None) is not None
        why = (
            "has files but no manifest: it was never finished, or the manifest was deleted" if half else "is not there"
        )
        raise TaskError(
            "manifest_missing", f"backup {backup} {why} in {store.url}; `backup list` shows what can be used"
        ) from None


def remove(store: Store, backup: str) -> None:
    """Delete a backup, its manifest first: from then on it does not exist, also if this is interrupted."""
    store.delete([manifest_key(backup)])
    store.delete([entry.key for entry in store.entries(folder(backup))])


def _read(store: Store, backup: str) -> Manifest:
    return Manifest.from_bytes(store.get(manifest_key(backup)), backup)
