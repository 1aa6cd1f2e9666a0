"""Running pg_dump and its like: output as a stream, errors as one message."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tasks.errors import TaskError

_PIPE = 1 << 20
_LINES_SHOWN = 5


@contextmanager
def output_of(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[BinaryIO]:
    """What the program writes to its standard output. Raises when it ends badly; ends it when the reader does."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=_PIPE,
            pipesize=_PIPE,
        )
        assert process.stdout is not None
        try:
            yield cast(BinaryIO, process.stdout)
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise _failure(command, process.returncode, errors.read().decode(errors="replace"))


def run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program that writes files itself."""
    with output_of(command, environment) as output:
        while output.read(_PIPE):
            pass


def _failure(command: Sequence[str], status: int, errors: str) -> TaskError:
    name = Path(command[0]).name
    lines = errors.strip().splitlines()[-_LINES_SHOWN:]
    how = f"was ended by signal {-status}" if status < 0 else f"ended with exit code {status}"
    message = f"{name} {how}: " + (" / ".join(lines) or "no output on stderr")
    if "No space left on device" in errors:
        return TaskError("disk_full", f"{message}. Give the task a larger scratch volume (SCRATCH).")
    return TaskError("dump_failed", message)
