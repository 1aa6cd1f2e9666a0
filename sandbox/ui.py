"""Progress on the terminal: the current step, its duration, its log."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.progress import progress

_HEARTBEAT_SECONDS = 15


class SandboxError(Exception):
    """A failure the user can act on: one message, no traceback."""


def note(message: str) -> None:
    print(f"  {message}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the step's title, a sign of life while it runs, and its duration."""
    start = time.monotonic()
    done = threading.Event()

    def heartbeat() -> None:
        while not done.wait(_HEARTBEAT_SECONDS):
            note(f"… {title} ({progress.describe(title)})")

    progress.begin(title)
    print(f"▸ {title}", file=sys.stderr, flush=True)
    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        note(f"✗ {title} failed after {time.monotonic() - start:.1f} s")
        raise
    finally:
        done.set()
        thread.join()
        progress.end(title)
    elapsed = time.monotonic() - start
    if elapsed >= 1:
        note(f"✓ {title} ({elapsed:.1f} s)")


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Run a command to its end and return its standard output.

    Raises SandboxError with the command, its exit code and its last lines when it fails.
    With `log`, everything it printed is appended there as well.
    """
    argv = [str(part) for part in command]
    try:
        done = subprocess.run(argv, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise SandboxError(f"{argv[0]}: not found on this machine ({error})") from error
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as sink:
            sink.write(f"$ {' '.join(argv)}\n{done.stdout}{done.stderr}\n")
    if done.returncode != 0:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        where = f"\nWhole output: {log}" if log else ""
        raise SandboxError(f"`{' '.join(argv)}` ended with exit code {done.returncode}:\n{tail}{where}")
    return done.stdout
