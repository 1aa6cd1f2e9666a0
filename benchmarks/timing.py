"""Time commands in turn, so that a machine that slows down slows all of them down, and compare medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.paths import ROOT


@dataclass
class Series:
    """Seconds of wall time of every counted run."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        return {
            "median_seconds": round(self.median, 3),
            "min_seconds": round(min(self.seconds), 3),
            "max_seconds": round(max(self.seconds), 3),
            "runs": [round(value, 3) for value in self.seconds],
        }


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        argv, cwd=ROOT, env=dict(os.environ) | dict(environment or {}), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def in_turn(contenders: Mapping[str, Callable[[int], object]], runs: int) -> dict[str, Series]:
    """Each contender once per round, `runs` rounds after one that is not counted.

    A contender gets the number of the round, to make a different change in each.
    """
    taken = {name: Series() for name in contenders}
    for turn in range(runs + 1):
        for name, act in contenders.items():
            start = time.perf_counter()
            act(turn)
            elapsed = time.perf_counter() - start
            if turn:
                taken[name].seconds.append(elapsed)
                print(f"  {name}: {elapsed:.2f} s", flush=True)
    return taken


def ratios(taken: Mapping[str, Series], ours: str) -> dict[str, float]:
    """Our median over each other's: below 1 we are quicker."""
    return {
        f"{ours}/{name}": round(taken[ours].median / series.median, 2) for name, series in taken.items() if name != ours
    }
