"""Following the log of one container: through ends of the stream, restarts, and an API server that is away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tasks.logs.api import Api, Quiet, Unavailable
from tasks.logs.backoff import Backoff
from tasks.logs.counts import Counts
from tasks.logs.lines import Position, stamped
from tasks.progress import say

LONGEST = 64 * 1024
"""Bytes of a line. What is longer is counted, and not read."""
_NOT_YET = (400, 404)
"""The container has not begun, or there is none before it."""


@dataclass(eq=False)
class Pod:
    """What the watch last said of it."""

    name: str
    path: str
    """Where the API server has it."""
    begun: set[str] = field(default_factory=set[str])
    """Containers that have said something, perhaps."""
    gone: bool = False
    """No line will follow after those that there are."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Follower:
    """Reads everything that a container says from one moment on, once."""

    def __init__(self, api: Api, pod: Pod, container: str, counts: Counts, since: int) -> None:
        self._api = api
        self._pod = pod
        self._container = container
        self._counts = counts
        self._position = Position(since)
        self._pause = Backoff()
        self._told: str | None = None

    async def run(self) -> None:
        """Until the pod is gone."""
        while True:
            self._pod.changed.clear()
            again = False
            try:
                if self._container in self._pod.begun:
                    await self._read()
            except Quiet:
                again = True
            except Unavailable as why:
                self._say(why)
            if self._pod.gone:
                return
            if not again:
                await self._pause.wait(unless=self._pod.changed)

    async def _read(self) -> None:
        # Perhaps it was restarted while nobody listened: what it said last is in the log of the one before.
        try:
            await self._stream({"previous": "true"})
        except Unavailable as why:
            if why.status not in _NOT_YET:
                raise
        await self._stream({"follow": "true"})

    async def _stream(self, how: dict[str, str]) -> None:
        asked = {"container": self._container, "timestamps": "true", "sinceTime": self._position.since, **how}
        async with self._api.opened(f"{self._pod.path}/log", asked, LONGEST) as lines:
            self._position.begin()
            self._told = None
            async for line, whole in lines:
                # Without a time it is the kubelet that speaks.
                if (found := stamped(line)) and self._position.passes(found[0]):
                    self._counts.line(self._pod.name, found[1] if whole else None)
                    self._pause.over()

    def _say(self, why: Unavailable) -> None:
        """Once, and not at every attempt."""
        if why.status not in _NOT_YET and self._told != str(why):
            self._told = str(why)
            say(f"warning: the log of {self._pod.name} cannot be read, and is tried again: {why}")
