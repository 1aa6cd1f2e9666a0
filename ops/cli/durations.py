"""Durations as options: 30m, 2h, 7d."""

from __future__ import annotations

import re

from ops.errors import Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(\d{1,6})\s*([smhd])")


def parse_seconds(text: str, option: str, example: str = "30m, 2h or 1d") -> int:
    """Seconds of a duration, or Refused naming the option."""
    found = _FORM.fullmatch(text.strip().lower())
    if not found or not int(found[1]):
        raise Refused(f"{option} {text!r}: write a number and a unit, such as {example}. Nothing was changed.")
    return int(found[1]) * _UNITS[found[2]]
