"""`backup create`: one backup, from the lock to the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from tasks.backup import catalog
from tasks.backup.encryption import recipients
from tasks.backup.evidence_head import check_end
from tasks.backup.files import Files
from tasks.backup.manifest import FOLDER, Kind, Manifest, Origin, Release, manifest_key, new_id
from tasks.backup.patience import Patience
from tasks.backup.source import Snapshot, Source, open_source
from tasks.backup.store_lock import Holder, StoreLock, held
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.progress import say, size, step
from tasks.restore import evidence
from tasks.store import Store, open_store


def create(environment: Environment, kind: Kind) -> Manifest:
    """Back up the database of DATABASE_URL into BACKUP_STORE. Nothing is listed unless all of it is there."""
    source, store = open_source(environment), open_store(environment)
    to, release = recipients(environment), _release(environment)
    # A backup that was asked for now fails at once, with the reason.
    patience = Patience() if kind == "manual" else Patience.from_environment(environment)
    with _alone(environment, source, store, patience) as (origin, take_snapshot, lock):
        clear_leftovers(store)
        previous = max(catalog.finished(store), default=None)
        with take_snapshot() as snapshot:
            backup = new_id(kind, snapshot.taken_at)
            files = Files(store, backup, to)
            try:
                with step(f"backup {backup} of {source.name} ({size(snapshot.database_bytes)})"):
                    manifest = _write(source, snapshot, files, backup, kind, to, release, previous, origin)
                    snapshot.still_alone()
                    lock.require_held()
                    store.put(manifest_key(backup), manifest.to_bytes())
                    _require_whole(store, manifest)
            except BaseException:
                _forget(store, backup)
                raise
    _see_evidence(environment, store)
    return manifest


def await_idle(environment: Environment) -> None:
    """Wait until a backup could begin; `backup_running` says what prevents it for longer than BACKUP_WAIT_SECONDS."""
    patience = Patience.from_environment(environment)
    with _alone(environment, open_source(environment), open_store(environment), patience):
        pass


@contextmanager
def _alone(
    environment: Environment, source: Source, store: Store, patience: Patience
) -> Iterator[tuple[Origin, Callable[[], AbstractContextManager[Snapshot]], StoreLock]]:
    """Hold the locks of the database and of the store."""
    store.prepare()
    origin, instance = source.origin(environment.text("BACKUP_STACK"))
    holder = Holder(origin.stack, source.name, instance)
    with source.alone(patience) as take_snapshot, held(store, holder, patience) as lock:
        yield origin, take_snapshot, lock


def _see_evidence(environment: Environment, store: Store) -> None:
    """Remember the newest restore test. The backup is made, whatever is wrong with the record of others."""
    if not environment.text("EVIDENCE_KEY"):
        return
    try:
        check_end(environment, store, evidence.chain(store))
    except TaskError as error:
        say(f"warning: {error}")


def skip_reason(environment: Environment, level: int) -> str | None:
    """Why no backup is due, or None: one is due while the database is behind `level`."""
    from tasks.backup.sqlite_source import SqliteSource  # it knows this module's types

    source = open_source(environment)
    if isinstance(source, SqliteSource) and not source.exists():
        return f"there is no database {source.path} yet"
    found = source.level()
    if found is None:
        raise Refused("environment_invalid", "--if-behind needs SCHEMA_LEVEL_QUERY, which is not set")
    if found < level:
        return None
    return f"the database is at schema level {found}: migrations up to {level} are applied"


def clear_leftovers(store: Store) -> None:
    """Remove what killed backups left: uploads, and folders without a manifest. Only under the lock."""
    uploads = store.clear_unfinished(FOLDER)
    keys = {backup: keys for backup, keys in catalog.contents(store).items() if manifest_key(backup) not in keys}
    store.delete(key for half in keys.values() for key in half)
    if uploads or keys:
        say(f"removed the remains of unfinished backups: {uploads} uploads, {len(keys)} folders")


def _write(
    source: Source,
    snapshot: Snapshot,
    files: Files,
    backup: str,
    kind: Kind,
    to: tuple[str, ...],
    release: Release | None,
    previous: str | None,
    origin: Origin,
) -> Manifest:
    dump, counts = snapshot.dump(files, backup)
    files.finish(dump)
    return Manifest(
        id=backup,
        kind=kind,
        created_at=snapshot.taken_at,
        finished_at=datetime.now(UTC),
        engine=source.engine,
        server_version=snapshot.server_version,
        database=source.name,
        format=snapshot.format,
        schema_level=snapshot.schema_level,
        release=release,
        tables=counts,
        sentinel=snapshot.sentinel,
        files=tuple(files.written),
        size_bytes=sum(file.size for file in files.written),
        database_bytes=snapshot.database_bytes,
        key_ids=to,
        tools=snapshot.tools,
        previous=previous,
        application=snapshot.application,
        via_root=snapshot.via_root,
        origin=origin,
    )


def _require_whole(store: Store, manifest: Manifest) -> None:
    """`backup_incomplete` if a process that took the lock over has removed a file meanwhile."""
    there = {entry.key: entry.size for entry in store.entries(manifest.folder)}
    if gone := [file.name for file in manifest.files if there.get(manifest.key(file)) != file.size]:
        raise TaskError(
            "backup_incomplete",
            f"backup {manifest.id}: {', '.join(gone)} was removed from {store.url} while the backup ran; it is not "
            "kept. Check which other process writes there, and run it again",
        )


def _forget(store: Store, backup: str) -> None:
    """Best effort: the next run tries again, and without a manifest it is not listed as a backup."""
    try:
        catalog.remove(store, backup)
    except TaskError as error:
        say(f"warning: parts of {backup} stay until the next run: {error}")


def _release(environment: Environment) -> Release | None:
    revision = environment.integer("RELEASE_REVISION", least=0)
    git, image = environment.text("RELEASE_GIT"), environment.text("RELEASE_IMAGE")
    known: tuple[Any, ...] = (revision, git, image)
    return Release(revision, git, image) if any(value is not None for value in known) else None
