"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import asyncio

_FIRST_SECONDS, _LAST_SECONDS = 0.2, 10.0


class Backoff:
    """Longer each time, until something went well."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS

    def over(self) -> None:
        """Something went well."""
        self._seconds = _FIRST_SECONDS

    async def wait(self, unless: asyncio.Event | None = None) -> None:
        """`unless`: what is a reason to try at once."""
        seconds, self._seconds = self._seconds, min(2 * self._seconds, _LAST_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await (unless or asyncio.Event()).wait()
        except TimeoutError:
            pass
