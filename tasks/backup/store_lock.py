"""One backup at a time in a store, whichever database, cluster or stack it is of.

The lock is the object with the highest number below `locks/backup/`. It is made only if there is none of its number,
and never overwritten: a process that takes over from a dead holder makes the next number, which one process alone can.
The holder writes a second object again and again; how old that is, is judged by the store's own clock alone.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.backup.patience import Patience
from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Entry, Missing, Store
from tasks.store.base import Exists

FOLDER = "locks/backup/"
EXPIRES = timedelta(seconds=120)
"""Without a sign of its holder for so long, a lock is dead."""
RENEWED = 20.0
"""Seconds between two signs."""
_AGAIN_SECONDS = 5.0
"""Until a lock that another one holds is looked at again: a store reports no changes."""

_LOCK, _SIGN = ".json", ".alive"


@dataclass(frozen=True)
class Holder:
    """Who makes a backup."""

    stack: str | None
    database: str
    instance: str
    """The running server and its database, whose own lock the holder has: a lock of the same instance is left over."""


class StoreLock:
    """A lock that is held."""

    def __init__(self, store: Store, key: str, token: str) -> None:
        self._store, self._key, self._token = store, key, token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="store-lock", daemon=True)

    def require_held(self) -> None:
        """`lock_lost` if another process may have taken over."""
        if _newest(self._store) != self._key or _read(self._store, self._key).get("token") != self._token:
            raise TaskError(
                "lock_lost",
                f"{self._store.url}: another backup took this one's lock over, because it gave no sign for "
                f"{EXPIRES.total_seconds():.0f} s; what this one made is removed. Run it again",
            )

    def start(self) -> None:
        self._thread.start()

    def release(self) -> None:
        self._ended.set()
        self._thread.join()
        try:
            keys = [self._sign]
            if _read(self._store, self._key).get("token") == self._token:
                keys.append(self._key)
            self._store.delete(keys)
        except TaskError as error:
            say(f"warning: the lock of this backup stays for {EXPIRES.total_seconds():.0f} s: {error}")

    @property
    def _sign(self) -> str:
        return f"{FOLDER}{self._token}{_SIGN}"

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED):
            try:
                self._store.put(self._sign, b"", keep=False)
            except TaskError as error:
                say(f"warning: the lock in the store could not be renewed: {error}")


@contextmanager
def held(store: Store, holder: Holder, patience: Patience | None = None) -> Iterator[StoreLock]:
    """Hold the store's lock; `backup_running` says who keeps it."""
    lock = _acquire(store, holder, patience or Patience())
    lock.start()
    try:
        yield lock
    finally:
        lock.release()


def _acquire(store: Store, holder: Holder, patience: Patience) -> StoreLock:
    token = secrets.token_hex(16)
    content = {
        "token": token,
        "stack": holder.stack,
        "database": holder.database,
        "instance": holder.instance,
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(),
    }
    while True:
        entries = list(store.entries(FOLDER))
        newest = _last(entries)
        if newest is not None and (busy := _find_living(store, newest, entries, holder)):
            time.sleep(patience.spend(busy, most=_AGAIN_SECONDS))
            continue
        number = int(newest.removeprefix(FOLDER).removesuffix(_LOCK)) + 1 if newest else 1
        key = f"{FOLDER}{number:08}{_LOCK}"
        try:
            store.put(key, json.dumps(content).encode(), new=True, keep=False)
        except Exists:
            continue  # by another process at the same moment: see who it is
        lock = StoreLock(store, key, token)
        lock.require_held()  # also on a server that does not know conditions
        store.delete(entry.key for entry in entries)
        return lock


def _find_living(store: Store, key: str, entries: list[Entry], holder: Holder) -> TaskError | None:
    """`backup_running` if the holder of this lock lives."""
    found = _read(store, key)
    if not found:
        return None  # released since it was listed
    modified = {entry.key: entry.modified for entry in entries}
    shown = max(modified[key], modified.get(f"{FOLDER}{found.get('token')}{_SIGN}", modified[key]))
    who = f"of {found.get('database')}" + (f", stack {found['stack']}" if found.get("stack") else "")
    if found.get("instance") == holder.instance:
        say(f"the lock of a backup that was killed is taken over ({who})")
        return None
    silent = store.now() - shown
    if silent <= EXPIRES:
        return TaskError(
            "backup_running",
            f"another backup is running in {store.url} ({who}, on {found.get('host')} since {found.get('since')}); "
            f"try again later. A lock whose process was killed ends after {EXPIRES.total_seconds():.0f} s. If two "
            "stacks share this store, give each a prefix of its own",
        )
    say(f"warning: the lock of another backup ({who}) gave no sign for {silent.total_seconds():.0f} s: taken over")
    return None


def _newest(store: Store) -> str | None:
    return _last(list(store.entries(FOLDER)))


def _last(entries: list[Entry]) -> str | None:
    return max((entry.key for entry in entries if entry.key.endswith(_LOCK)), default=None)


def _read(store: Store, key: str) -> dict[str, Any]:
    """{} if it is not there any more, or no lock of this form."""
    try:
        found = json.loads(store.get(key))
    except (Missing, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
