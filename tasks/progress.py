"""Progress, as single lines on standard error: standard output belongs to the result."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 10.0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Report a step's start and its duration."""
    began = time.monotonic()
    say(f"{title} …")
    yield
    say(f"{title}: done in {time.monotonic() - began:.1f} s")


class Meter:
    """Counts bytes and reports them at intervals."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = self._reported = time.monotonic()
        self.bytes = 0

    def add(self, count: int) -> None:
        self.bytes += count
        now = time.monotonic()
        if now - self._reported >= _EVERY_SECONDS:
            self._reported = now
            say(f"{self._title}: {size(self.bytes)}, {size(round(self.bytes / (now - self._began)))}/s")


def size(count: int) -> str:
    """A number of bytes as people read it."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
