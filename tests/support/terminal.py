"""A command that asks at a terminal, and what is typed there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_ASKS = re.compile(r"New value of (\w+)")
_LOCAL_FLAGS = 3


def run_at_terminal(
    command: Sequence[str], answers: Mapping[str, str], *, cwd: Path, environment: Mapping[str, str], seconds: float
) -> tuple[int, str]:
    """How the command ended and what it printed. It gets each value when it asks for it, after it has turned echo off:
    what is typed earlier is discarded, so that it is not shown."""
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environment), stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    deadline, printed, asked = time.monotonic() + seconds, "", 0
    try:
        while select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                return process.wait(timeout=30), printed
            printed += piece.decode(errors="replace")
            for name in _ASKS.findall(printed)[asked:]:
                asked += 1
                while termios.tcgetattr(terminal)[_LOCAL_FLAGS] & termios.ECHO:
                    assert process.poll() is None, printed
                    assert time.monotonic() < deadline, printed
                    time.sleep(0.01)
                os.write(keyboard, f"{answers[name]}\n".encode())
        raise AssertionError(f"did not end within {seconds} s:\n{printed}")
    finally:
        process.kill()
        os.close(keyboard)
        os.close(terminal)
