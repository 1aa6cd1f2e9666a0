"""The pause between attempts."""

from __future__ import annotations

import asyncio

_FIRST_SECONDS, _LAST_SECONDS = 0.2, 10.0


class Backoff:
    """Doubles the pause after each failure; `reset` after a success."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS

    def reset(self) -> None:
        self._seconds = _FIRST_SECONDS

    async def wait(self, unless: asyncio.Event | None = None) -> None:
        """Returns at once when `unless` is set."""
        seconds, self._seconds = self._seconds, min(2 * self._seconds, _LAST_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await (unless or asyncio.Event()).wait()
        except TimeoutError:
            pass
