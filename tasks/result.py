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
