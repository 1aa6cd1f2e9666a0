"""Splits a stream of bytes into lines, and tracks how far a log has been read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

_STAMP = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ")
_SECOND = 1_000_000_000


class Splitter:
    """Whole lines, each cut at `longest`. Text after the last line end is not a line yet: when the stream ends there,
    the rest may still come."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._kept = bytearray()
        self._cut = False

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """Each line, and whether that is all of it."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            line, whole = bytes(self._kept), not self._cut
            self._kept.clear()
            self._cut = False
            start = end + 1
            yield line, whole
        self._keep(chunk[start:])

    def _keep(self, part: bytes) -> None:
        free = self._longest - len(self._kept)
        self._kept += part[:free]
        self._cut |= len(part) > free


def stamped(line: bytes) -> tuple[int, bytes] | None:
    """The kubelet's timestamp in nanoseconds, and the line itself; None without a timestamp."""
    found = _STAMP.match(line)
    if not found:
        return None
    whole, fraction, zone = (group.decode() if group else "" for group in found.groups())
    seconds = int(datetime.fromisoformat(whole + zone).timestamp())
    return seconds * _SECOND + int(fraction.ljust(9, "0")), line[found.end() :]


class Position:
    """How far a container's log has been read. The API server knows seconds, so that a log which is asked for again
    begins with lines that were read before: they are recognised by time, and within one moment by number."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._read = 0
        """Lines of that moment."""
        self._again = 0
        """Of these, how many the stream will bring again."""
        self._new = False
        """Whether what follows in this stream is new, even if a clock was set back."""

    @property
    def since(self) -> str:
        """The `sinceTime` of the next request."""
        return datetime.fromtimestamp(self._at // _SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin(self) -> None:
        """The log is opened again."""
        self._again, self._new = self._read, False

    def passes(self, at: int) -> bool:
        """Whether the stream's next line, of this moment, has not been read before."""
        if not self._new and at == self._at and self._again:
            self._again -= 1
            return False
        self._new |= at >= self._at
        if not self._new:
            return False
        if at > self._at:
            self._at, self._read = at, 0
        self._read += at == self._at
        return True
