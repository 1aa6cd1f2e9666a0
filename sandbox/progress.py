"""How far the work is and how long it will still take, from how long it took before (`times.json`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

TIMES: dict[str, int] = json.loads(Path(__file__).with_name("times.json").read_text())
"""Title of a step → seconds it takes on two idle cores when nothing was built before."""

_CORES_OF_TIMES = 2


class Progress:
    def __init__(self, times: dict[str, int], cores: int) -> None:
        self._times = times
        self._pace = _CORES_OF_TIMES / cores
        self._planned: set[str] = set()
        self._began: dict[str, float] = {}
        self._took = self._foreseen = 0.0

    def plan(self, titles: Iterable[str]) -> None:
        """Announce the steps; the time for all of them is known only then."""
        self._planned |= set(titles) & self._times.keys()

    def begin(self, title: str) -> None:
        self._began[title] = time.monotonic()

    def end(self, title: str) -> None:
        """A step has ended; its duration shows how fast this machine is."""
        seconds = time.monotonic() - self._began.pop(title)
        if title in self._planned:
            self._planned.remove(title)
            self._took += seconds
            self._foreseen += self._times[title]

    def describe(self, title: str) -> str:
        """`120 s of about 300 s; all: about 14 min left`, as far as it is known."""
        seconds = time.monotonic() - self._began[title]
        text = f"{seconds:.0f} s"
        if title in self._times:
            text += f" of about {self._expected(title):.0f} s"
        if len(self._planned) > 1 and title in self._planned:
            text += f"; all: about {max(1, round(self.left() / 60))} min left"
        return text

    def left(self) -> float:
        """Seconds until all planned steps have been taken."""
        now = time.monotonic()
        return sum(
            max(0.0, self._expected(title) - (now - self._began.get(title, now))) for title in list(self._planned)
        )

    def _expected(self, title: str) -> float:
        """The time from the table, at the pace of the planned steps that have ended."""
        return self._times[title] * (self._took / self._foreseen if self._foreseen > 60 else self._pace)


progress = Progress(TIMES, os.cpu_count() or 1)
