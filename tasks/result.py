"""What a task hands back: the same facts for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    data: Any
    """Becomes the one line of JSON."""
    summary: str
    """What people read instead."""
