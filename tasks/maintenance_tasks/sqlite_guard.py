"""When maintenance of a SQLite file must not work, and its connections.

A file has no sessions to count: how busy it is shows in the wait for its lock. A release and a restore are known from
the command's Lease, a backup from the lock that it holds.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.backup.patience import Patience
from tasks.errors import TaskError
from tasks.maintenance_tasks.api import Api
from tasks.maintenance_tasks.plan import Plan

_LOCKS = {"backup-lock": "a backup runs", "restore-lock": "a restore runs"}
"""What backups and restores hold beside the file."""


class SqliteGuard:
    """Asks the locks beside the file and, where there is one, the API server."""

    def __init__(self, path: Path, api: Api | None, plan: Plan) -> None:
        self.path, self._api, self._plan = path, api, plan

    @contextmanager
    def alone(self, patience: Patience, wait: Callable[[float], object]) -> Iterator[None]:
        """One run at a time."""
        name = self.path.with_name(f"{self.path.name}.maintenance-lock")
        try:
            lock = name.open("a")
        except OSError as error:
            raise TaskError("database_unreachable", f"{name} cannot be made: {error.strerror}") from None
        with lock:
            while not _locks(lock, fcntl.LOCK_EX):
                wait(patience.spend(TaskError("maintenance_running", "another maintenance run is running"), most=5))
            yield

    def look(self) -> SqliteLook:
        if not self.path.exists():
            raise TaskError("database_unreachable", f"{self.path} is not there: has the application made it yet?")
        return SqliteLook(self.path)

    def find_command(self) -> str | None:
        """Who changes the stack."""
        return self._api.find_command(self._plan.command_lock) if self._api else None


class SqliteLook:
    """What holds maintenance back now."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def find_reason(self) -> str | None:
        found = [what for end, what in _LOCKS.items() if _is_held(self._path.with_name(f"{self._path.name}.{end}"))]
        return "; ".join(found) or None

    def find_load(self) -> str | None:
        return None

    def close(self) -> None:
        """There is no connection."""


def _is_held(path: Path) -> bool:
    try:
        lock = path.open()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TaskError("database_unreachable", f"{path} cannot be read: {error.strerror}") from None
    with lock:
        # Shared, and for a moment: who wants it then tries again.
        return not _locks(lock, fcntl.LOCK_SH)


def _locks(file: Any, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
