"""Two locks: a local one beside the stack file for the whole command, and the engine's own for one update.

The engine's lock is left behind when its process is killed. The engine names its owner by host name and process id
only, which another machine or container may have too. So the local lock records the engines that its command starts,
and an engine's lock is broken unasked only when it is of a recorded process that has ended. Otherwise an operator
decides. `ops/stack/command_lock.py` has the lock for a whole command on every machine.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ops.errors import Refused
from ops.stack.process_identity import Process
from ops.stack.state_files import StateFiles

_KEPT = 20
"""Engines of killed commands that stay recorded."""
_LOCKED_WITHIN_SECONDS = 60
"""How long after its start an engine has taken its lock: it loads plug-ins before."""


def whoami() -> str:
    return f"{os.environ.get('RUNBOOK_USER') or getpass.getuser()}@{socket.gethostname()}"


class LocalLock:
    """The lock beside the stack file, while it is held."""

    def __init__(self, file: IO[str], doing: str) -> None:
        self._file = file
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        self._command = f"{doing} by {whoami()} (pid {os.getpid()}), since {since}"
        self._engines = _read_record(file)["engines"]  # of killed commands
        self._write()

    def add_engine(self, pid: int) -> None:
        """Record an engine that this command started."""
        if process := Process.find(pid):
            now = datetime.now(UTC).isoformat()
            self._engines = [*self._engines[-_KEPT:], {**process.to_dict(), "at": now}]
            self._write()

    def remove_engine(self, pid: int) -> None:
        """An engine of this command has ended by itself, and so removed its lock."""
        self._engines = [engine for engine in self._engines if engine.get("pid") != pid]
        self._write()

    def close(self) -> None:
        self._command = ""
        self._write()

    def _write(self) -> None:
        self._file.truncate(0)
        self._file.write(json.dumps({"command": self._command, "engines": self._engines}))
        self._file.flush()


@contextmanager
def exclusive(stack_file: Path, doing: str) -> Iterator[LocalLock]:
    """Hold the local lock, or refuse and say who holds it. The kernel releases it when the process ends."""
    with _record_file(stack_file).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"Another command uses this stack: {_read_record(file)['command'] or 'owner unknown'}. "
                "Wait for it to end; nothing was changed."
            ) from None
        lock = LocalLock(file, doing)
        try:
            yield lock
        finally:
            lock.close()


def _record_file(stack_file: Path) -> Path:
    return stack_file.parent / f"{stack_file.name}.lock"


def _read_record(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return {"command": str(found["command"]), "engines": list(found["engines"])}
    except (ValueError, KeyError, TypeError):
        return {"command": "", "engines": []}


@dataclass(frozen=True)
class EngineLock:
    """The owner of the engine's lock, as the lock names it."""

    user: str
    host: str
    pid: int
    since: str
    file: str = ""
    """Name of its file in the backend, where it is known."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid}) since {self.since}"


class Locked(Refused):
    """Another engine or command holds the stack."""

    def __init__(self, locks: Sequence[EngineLock], message: str | None = None) -> None:
        self.locks = locks
        super().__init__(message or f"The stack is locked by {', '.join(map(str, locks))}.")


_OWNER = re.compile(
    r"(?P<file>[^/\s]+\.json)?: created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)"
)


def parse_lock_owners(message: str) -> list[EngineLock]:
    """The owners that the engine names when it refuses an update."""
    return [
        EngineLock(m["user"], m["host"], int(m["pid"]), m["since"], m["file"] or "") for m in _OWNER.finditer(message)
    ]


def list_locks(files: StateFiles, folder: str) -> list[EngineLock]:
    """The locks in the folder where a backend keeps a stack's."""
    found: list[EngineLock] = []
    for name in files.names(folder):
        for content in files.read(folder, [name]) if name.endswith(".json") else ():
            each = json.loads(content)
            owner = each["username"], each["hostname"], each["pid"], each["timestamp"][:19]
            found.append(EngineLock(*owner, name))
    return found


def all_abandoned(locks: Sequence[EngineLock], stack_file: Path) -> bool:
    """Whether every owner is known to have ended, so that breaking the locks interrupts no update."""
    try:
        with _record_file(stack_file).open() as file:
            engines = _read_record(file)["engines"]
    except OSError:
        return False
    return bool(locks) and all(any(_is_of(lock, engine) for engine in engines) for lock in locks)


def _is_of(lock: EngineLock, engine: Mapping[str, Any]) -> bool:
    """Whether a lock is of this recorded engine, and that has ended."""
    process = Process.from_dict(engine)
    if process is None or (lock.user, lock.host, lock.pid) != (getpass.getuser(), socket.gethostname(), process.pid):
        return False
    try:
        begun, locked = (datetime.fromisoformat(text) for text in (engine["at"], lock.since))
    except (KeyError, ValueError):
        return False
    # The engine takes its lock right after its start: the lock of a later process with this id is not of this one.
    after = (locked.replace(tzinfo=locked.tzinfo or UTC) - begun).total_seconds()
    return -1 <= after <= _LOCKED_WITHIN_SECONDS and process.is_gone()


def engine_alive(pid: int) -> bool:
    """Whether a process of this PID namespace with this id is an engine."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("pulumi")
    except OSError:
        return False
