"""A folder for what has to be on the disk for a while."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.environment import Environment
from tasks.errors import TaskError

_PREFIX = "runbook-"
_LOCK = "lock"


@contextmanager
def scratch(environment: Environment) -> Iterator[Path]:
    """An empty folder, readable by us only, removed at the end; `disk_full` when there is no space.

    What a killed process left is removed first: a pod's volume outlives its containers, and would fill up.
    """
    try:
        _clear(environment.scratch)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=environment.scratch) as name:
            inside = Path(name, "content")
            with Path(name, _LOCK).open("w") as lock:
                # The kernel lets go of it with the process, however that ends.
                fcntl.flock(lock, fcntl.LOCK_EX)
                inside.mkdir()
                yield inside
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(environment) from error
        raise


def full(environment: Environment) -> TaskError:
    return TaskError(
        "disk_full", f"no room left in {environment.scratch}: give the task a larger scratch volume (SCRATCH)"
    )


def _clear(where: Path) -> None:
    for name in where.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with name.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Made and not locked yet looks like left behind: its owner makes this folder right after.
                if name.with_name("content").exists():
                    shutil.rmtree(name.parent, ignore_errors=True)
        except OSError:  # used by another process, or already removed
            continue
