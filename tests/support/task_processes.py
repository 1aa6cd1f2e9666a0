"""Tasks as pods run them: a process of its own, an environment, a line of JSON."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.__main__ import main
from tasks.environment import Environment

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    result: Any
    """The last line of standard output."""
    progress: str

    @property
    def error(self) -> str:
        assert self.exit_code, f"it succeeded: {self.result}"
        return self.result["error"]["code"]

    @property
    def message(self) -> str:
        return self.result["error"]["message"]


def start(environment: Mapping[str, str], *words: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A task that runs on; `before` is put in front of its command line."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "tasks", *words, "--json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], environment: Mapping[str, str]) -> Outcome:
    """How a started task ended. Fails if the task printed a secret."""
    out, progress = process.communicate(timeout=120)
    return _outcome(process.returncode, out, progress, environment)


def task(environment: Mapping[str, str], *words: str, before: Sequence[str] = ()) -> Outcome:
    """A task from start to end; without `before` in this process, which saves Python's start."""
    if before:
        return ended(start(environment, *words, before=before), environment)
    out, progress = io.StringIO(), io.StringIO()
    own, on_term = dict(os.environ), signal.getsignal(signal.SIGTERM)
    os.environ.clear()
    os.environ.update({"PATH": own["PATH"], **environment})
    try:
        with redirect_stdout(out), redirect_stderr(progress):
            exit_code = main([*words, "--json"])
    finally:
        os.environ.clear()
        os.environ.update(own)
        signal.signal(signal.SIGTERM, on_term)
    return _outcome(exit_code, out.getvalue(), progress.getvalue(), environment)


def _outcome(exit_code: int, out: str, progress: str, environment: Mapping[str, str]) -> Outcome:
    for secret in Environment(environment).secrets:
        assert secret not in out + progress
    lines = out.splitlines()
    return Outcome(exit_code, json.loads(lines[-1]) if lines else None, progress)
