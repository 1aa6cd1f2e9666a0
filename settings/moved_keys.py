"""Keys that stood elsewhere in an earlier version: a stack file with one is refused with the key to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from settings.base import Path


@dataclass(frozen=True)
class Moved:
    """Where a key stands now."""

    to: Path
    """Path below `runbook:`."""
    convert: Callable[[Any, Any], Any]
    """Of the section as found and the key's value: the value to write."""


def _name_controller(section: Any, value: Any) -> Any:
    """The preset said whose metrics they are."""
    preset = section["requests"].get("preset") if isinstance(value, Mapping) else None
    return {**value, "controller": preset} if preset else value


MOVED: Mapping[Path, Moved] = {
    ("monitoring", "requests", "controller"): Moved(("monitoring", "prometheus", "ingress"), _name_controller),
}
"""By their old path below `runbook:`, which has no places in lists."""
