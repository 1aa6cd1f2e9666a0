"""Two locks: a local one beside the stack file for the whole command, and the engine's own across machines.

The engine's lock is left behind when its process is killed. It is broken only when its owner is known to be
gone (same machine, same user, no such process); otherwise an operator decides.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.errors import Refused
from ops.stack.state_files import StateFiles


def whoami() -> str:
    return f"{os.environ.get('RUNBOOK_USER') or getpass.getuser()}@{socket.gethostname()}"


@contextmanager
def exclusive(stack_file: Path, doing: str) -> Iterator[None]:
    """Hold the local lock, or refuse and say who holds it. The kernel releases it when the process ends."""
    with (stack_file.parent / f"{stack_file.name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Refused(
                f"Another command uses this stack: {lock.read().strip() or 'owner unknown'}. "
                "Wait for it to end; nothing was changed."
            ) from None
        lock.truncate(0)
        lock.write(f"{doing} by {whoami()} (pid {os.getpid()}), since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


@dataclass(frozen=True)
class EngineLock:
    """The owner of the engine's lock, as the lock names it."""

    user: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host} (pid {self.pid}) since {self.since}"

    def abandoned(self, user: str, host: str, alive: Callable[[int], bool]) -> bool:
        """True only when the owner is known to be gone."""
        return (self.user, self.host) == (user, host) and not alive(self.pid)


class Locked(Refused):
    """Another engine holds the stack."""

    def __init__(self, locks: Sequence[EngineLock], message: str | None = None) -> None:
        self.locks = locks
        super().__init__(message or f"The stack is locked by {', '.join(map(str, locks))}.")


_OWNER = re.compile(r"created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<since>\S+)")


def parse_lock_owners(message: str) -> list[EngineLock]:
    """The owners that the engine names when it refuses an update."""
    return [EngineLock(m["user"], m["host"], int(m["pid"]), m["since"]) for m in _OWNER.finditer(message)]


def list_locks(files: StateFiles, folder: str) -> list[EngineLock]:
    """The locks in the folder where a backend keeps a stack's."""
    names = [name for name in files.names(folder) if name.endswith(".json")]
    owners = [json.loads(content) for content in files.read(folder, names)]
    return [EngineLock(each["username"], each["hostname"], each["pid"], each["timestamp"][:19]) for each in owners]


def all_abandoned(locks: Sequence[EngineLock]) -> bool:
    """Whether every owner is known to be gone, so that breaking the lock interrupts no update."""
    here = getpass.getuser(), socket.gethostname()
    return bool(locks) and all(lock.abandoned(*here, engine_alive) for lock in locks)


def engine_alive(pid: int) -> bool:
    """Whether an engine with this process id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Where /proc exists, another process that reuses the id is not mistaken for the engine.
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith("pulumi")
    except OSError:
        return True
