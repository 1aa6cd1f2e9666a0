"""Follows the log of one container, across ends of the stream, restarts and API server outages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tasks.logs.api import Api, Quiet, Unavailable
from tasks.logs.backoff import Backoff
from tasks.logs.counts import Counts
from tasks.logs.lines import Position, stamped
from tasks.progress import say

LONGEST = 64 * 1024
"""Bytes of a line. A longer one is counted and not parsed."""
_NOT_YET = (400, 404)
"""The container has not started, or has no previous run."""


@dataclass(eq=False)
class Pod:
    """A pod, as the watch last reported it."""

    name: str
    path: str
    """Path at the API server."""
    begun: set[str] = field(default_factory=set[str])
    """Containers that have started, so that they may have a log."""
    gone: bool = False
    """No further line will come."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Follower:
    """Reads each line that a container writes after a given time, once."""

    def __init__(self, api: Api, pod: Pod, container: str, counts: Counts, since: int) -> None:
        self._api = api
        self._pod = pod
        self._container = container
        self._counts = counts
        self._position = Position(since)
        self._pause = Backoff()
        self._warned: str | None = None

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
        # If it restarted between two streams, its last lines are in the log of the previous run.
        try:
            await self._stream({"previous": "true"})
        except Unavailable as why:
            if why.status not in _NOT_YET:
                raise
        await self._stream({"follow": "true"})

    async def _stream(self, how: dict[str, str]) -> None:
        parameters = {"container": self._container, "timestamps": "true", "sinceTime": self._position.since, **how}
        async with self._api.opened(f"{self._pod.path}/log", parameters, LONGEST) as lines:
            self._position.begin()
            self._warned = None
            async for line, whole in lines:
                # A line without a timestamp is a message of the kubelet.
                if (found := stamped(line)) and self._position.passes(found[0]):
                    self._counts.line(self._pod.name, found[1] if whole else None)
                    self._pause.reset()

    def _say(self, why: Unavailable) -> None:
        """Warn once, not at every attempt."""
        if why.status not in _NOT_YET and self._warned != str(why):
            self._warned = str(why)
            say(f"warning: the log of {self._pod.name} cannot be read; retrying: {why}")
