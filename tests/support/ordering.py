"""Which modules the workers of a run take first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest


def put_longest_first(items: list[pytest.Item], folder: Path, longest: Sequence[str]) -> None:
    """Put the longest modules of a folder first, by name without `test_`; all else stays in its order.

    A worker takes whole modules: a long one that comes last keeps one worker busy while the others have ended.
    """

    def place(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return longest.index(name) if name in longest else len(longest)

    ordered = iter(sorted((item for item in items if item.path.parent == folder), key=place))
    items[:] = [next(ordered) if item.path.parent == folder else item for item in items]
