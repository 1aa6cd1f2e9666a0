"""The result of a task, as JSON and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    data: Any
    """Becomes the one line of JSON."""
    summary: str
    """The text for a terminal."""
    exit_code: int = 0
    """1 where the task came to its end and has to report a failure."""
