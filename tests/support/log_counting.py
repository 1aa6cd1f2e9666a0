"""Runs the log counter in a thread, and reads its numbers."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from settings.logs import Logs
from settings.platform import Egress
from tasks.environment import Environment
from tasks.logs.api import Api
from tasks.logs.counts import Counts, events_of
from tasks.logs.pods import count_pods
from tests.support.exposition import read_samples
from tests.support.pod_api import Cluster

ATTACK = {"level": "warn", "event": "sql_injection", "message": "suspicious request"}
LOGS = Logs(api_server=(Egress(cidr="10.0.0.1/32", ports=(6443,)),))
LOOKED_FOR = json.dumps({name: {"field": one.field, "pattern": one.pattern} for name, one in LOGS.events.items()})


def attacks(pod: str) -> str:
    return f'runbook_log_events_total{{event="sql_injection",pod="{pod}"}}'


def level(pod: str, which: str) -> str:
    return f'runbook_log_lines_total{{level="{which}",pod="{pod}"}}'


def judging(events: str = LOOKED_FOR) -> Counts:
    return Counts(events_of(Environment({"LOGS_EVENTS": events})))


class Counting:
    """The counter in a thread of its own."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    @property
    def numbers(self) -> dict[str, float]:
        return read_samples(self.counts)

    def until(self, condition: Callable[[dict[str, float]], bool], seconds: float = 20) -> dict[str, float]:
        deadline = time.monotonic() + seconds
        while not condition(numbers := self.numbers):
            assert time.monotonic() < deadline, numbers
            time.sleep(0.02)
        return numbers

    def reads(self, cluster: Cluster, pod: str, name: str = "debug") -> dict[str, float]:
        """The numbers, once a line that is said now has been read: what came before it has been, too."""
        before = self.numbers.get(level(pod, name), 0)
        cluster.say(pod, {"level": name})
        return self.until(lambda numbers: numbers.get(level(pod, name), 0) > before)


@contextmanager
def counting(cluster: Cluster, counts: Counts | None = None, silence: float = 60, **more: str) -> Iterator[Counting]:
    made = counts or judging()
    environment = Environment({"LOGS_API_URL": cluster.url, "LOGS_IDENTITY": "/nowhere", **more})
    loop = asyncio.new_event_loop()

    async def work() -> None:
        await count_pods(Api(environment, silence), "shop", "part=service", made)

    job = loop.create_task(work())
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(job)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        counter = Counting(made)
        counter.until(lambda numbers: "runbook_log_watch_up" in numbers)
        yield counter
    finally:
        loop.call_soon_threadsafe(job.cancel)
        thread.join(timeout=20)
        loop.close()
    assert not thread.is_alive()
    assert not failed, failed
