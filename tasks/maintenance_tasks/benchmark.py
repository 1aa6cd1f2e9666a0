"""`benchmark`: how fast the application answers, from inside the namespace, and against the run before.

A few GET requests, one after another: it measures, and puts no load on the shop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import httpx

from tasks.errors import TaskError
from tasks.http_check import ingress_headers
from tasks.maintenance_tasks import report as reports
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say
from tasks.reach import reach
from tasks.store import Missing, Store, open_store

TARGET = "TARGET_URL"
_WARM_UP = 2
"""Requests of each path that do not count: the first ones open connections and fill caches."""
_SECONDS = 30
_PERCENTILES = (50, 95)
_BACK = 12
"""Reports that are looked at for the last measurement."""


def benchmark(context: Context) -> Outcome:
    """Milliseconds of each path, at the median and at 95 %. A regression is a failure that names it."""
    plan, environment = context.plan.benchmark, context.environment
    if plan is None:
        raise TaskError("plan_invalid", "the plan of this run has no benchmark: update the stack")
    target = environment.required(TARGET, "http://backend:3000")
    with suppress(TaskError):  # the requests say what is wrong
        reach(target)
    measures: dict[str, float] = {}
    failures: list[str] = []
    with httpx.Client(
        base_url=target, headers=ingress_headers(environment), timeout=_SECONDS, trust_env=False
    ) as client:
        for path in plan.paths:
            try:
                times = [*_times(context, client, path, plan.requests, plan.pause_seconds)]
            except (TaskError, httpx.HTTPError) as error:
                failures.append(f"{path}: {str(error) or type(error).__name__}")
                continue
            found = {name_of(path, part): percentile(times, part) for part in _PERCENTILES}
            say(f"  {path}: {', '.join(f'{value:g} ms' for value in found.values())} (50 %, 95 %)")
            measures |= found
    run, before = _find_before(open_store(environment), context.plan.schedule, context.task.name)
    slower = [*find_regressions(before, measures, plan.regression_percent, plan.least_milliseconds)]
    notes = [f"compared with {run}" if run else "nothing to compare with yet: the next run is compared with this one"]
    if slower:
        failures.append(f"slower than in {run}: {'; '.join(slower)}")
    return Outcome(notes=notes, measures=measures, failure="; ".join(failures) or None)


def name_of(path: str, part: int) -> str:
    return f"{path}: ms at {part} %"


def _times(context: Context, client: httpx.Client, path: str, count: int, pause: float) -> Iterator[float]:
    """Milliseconds of each request that counts. TaskError: an answer that is none of a page that works."""
    for number in range(_WARM_UP + count):
        context.require_going()
        if number:
            time.sleep(pause)
        began = time.monotonic()
        answer = client.get(path)
        took = 1000 * (time.monotonic() - began)
        if answer.is_error:
            raise TaskError("not_measured", f"answers {answer.status_code} (maintenanceTasks.benchmark.paths)")
        if number >= _WARM_UP:
            yield took


def percentile(values: Sequence[float], part: int) -> float:
    """The smallest value that so many percent do not exceed, to a tenth."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(part / 100 * len(ordered)) - 1)], 1)


def find_regressions(
    before: Mapping[str, float], now: Mapping[str, float], percent: float, least: float
) -> Iterator[str]:
    """What takes longer than before, by more than both limits."""
    for what, value in now.items():
        earlier = before.get(what)
        if earlier is None or value - earlier < least or value <= earlier * (1 + percent / 100):
            continue
        more = f"{(value - earlier) / earlier:+.0%}" if earlier else "from 0"
        yield f"{what} {earlier:g} → {value:g} ({more})"


def _find_before(store: Store, schedule: str, name: str) -> tuple[str | None, Mapping[str, float]]:
    """The newest run that has measured: one in which the task was put off says nothing."""
    for run in reports.list_runs(store, schedule)[:_BACK]:
        try:
            tasks = reports.read(store, schedule, run)["tasks"]
        except (Missing, TaskError):
            continue
        for task in tasks:
            if task["name"] == name and task["kind"] == "benchmark" and task["measures"]:
                return run, task["measures"]
    return None, {}
