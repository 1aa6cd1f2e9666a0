"""Lighthouse's reports out of the log of the pod that made them."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable

_MARK = "lighthouse-report"
"""First word of a line with a part of a report; as in tasks/lighthouse."""
_NAME = re.compile(r"[a-z0-9-]+\.(html|json)")


def read_files(lines: Iterable[str]) -> dict[str, str]:
    """File name → content."""
    packed: dict[str, list[str]] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == _MARK and _NAME.fullmatch(words[1]):
            packed.setdefault(words[1], []).append(words[2])
    return {name: gzip.decompress(base64.b64decode("".join(parts))).decode() for name, parts in packed.items()}
