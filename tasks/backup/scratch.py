"""A folder for what has to be on the disk for a while."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.environment import Environment
from tasks.errors import TaskError


@contextmanager
def scratch(environment: Environment) -> Iterator[Path]:
    """An empty folder, readable by us only, removed at the end; `disk_full` when there is no room."""
    try:
        with tempfile.TemporaryDirectory(prefix="runbook-", dir=environment.scratch) as name:
            yield Path(name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(environment) from error
        raise


def full(environment: Environment) -> TaskError:
    return TaskError(
        "disk_full", f"no room left in {environment.scratch}: give the task a larger scratch volume (SCRATCH)"
    )
