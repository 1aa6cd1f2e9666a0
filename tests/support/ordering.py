"""Which modules the workers of a run take first, and which tests it has no time for."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

UNTIL = "RUNBOOK_TESTS_UNTIL"
"""Variable with the time, in seconds since 1970, from which on no test of the cluster begins. `python -m tests` sets it
in CI, where a run that is not over in time counts for nothing."""


def skip_without_time(name: str) -> None:
    """Skip a test for which there is no time left; the run names each at its end."""
    until = os.environ.get(UNTIL)
    if until and time.time() > float(until):
        pytest.skip(f"{name}: the time of this run is over; `make test` without CI=true runs it")


def put_longest_first(items: list[pytest.Item], folder: Path, longest: Sequence[str]) -> None:
    """Put the longest modules of a folder first, by name without `test_`; all else stays in its order.

    A worker takes whole modules: a long one that comes last keeps one worker busy while the others have ended.
    """

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return longest.index(name) if name in longest else len(longest)

    ordered = iter(sorted((item for item in items if item.path.parent == folder), key=place))
    items[:] = [next(ordered) if item.path.parent == folder else item for item in items]
