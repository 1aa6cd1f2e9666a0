"""Tasks as pods run them: a process of its own, an environment, a line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """How a started task ended. Whatever it printed, there is no secret in it."""
    out, progress = process.communicate(timeout=120)
    for secret in Environment(environment).secrets:
        assert secret not in out + progress
    lines = out.splitlines()
    return Outcome(process.returncode, json.loads(lines[-1]) if lines else None, progress)


def task(environment: Mapping[str, str], *words: str, before: Sequence[str] = ()) -> Outcome:
    return ended(start(environment, *words, before=before), environment)
