"""Metrics of page checks, from the results in the store. PAGE_CHECK: the paths that are measured, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from tasks.environment import Environment
from tasks.pages.results import DECIDED, RESULTS, Check, list_keys, read
from tasks.store import Store

_FULL = 100.0
_BEYOND = 100.1
"""Least of what is over a budget, so that no rounding hides it."""


def pages(environment: Environment, store: Store) -> Iterator[Metric]:
    """Nothing if PAGE_CHECK is not set. Of each page the newest result that says something of it counts: neither one of
    a machine that was too busy, nor one without an answer."""
    asked = environment.text("PAGE_CHECK")
    if asked is None:
        return
    paths = json.loads(asked)
    newest, decided = _read(store, paths)
    measured = GaugeMetricFamily(
        "runbook_page_measured_timestamp_seconds",
        "When the page was last measured on a machine that can be believed; 0 if it never was.",
        labels=["path"],
    )
    values = GaugeMetricFamily("runbook_page_value", "What was measured then.", labels=["path", "metric"])
    used = GaugeMetricFamily(
        "runbook_page_budget_percent",
        "The same in percent of its limit; over 100, the page does not keep it.",
        labels=["path", "metric", "worst", "revision", "git"],
    )
    for path in paths:
        check = decided.get(path)
        measured.add_metric([path], _seconds(check))
        if check is None:
            continue
        (page,) = (page for page in check["pages"] if page["path"] == path)
        release = check["release"]
        for metric, value in page["values"].items():
            values.add_metric([path, metric], value)
        for metric, limit in page["limits"].items():
            percent = compute_percent(metric, page["values"][metric], limit, over=metric in page["over"])
            used.add_metric([path, metric, page["worst"], release["revision"], release["git"]], percent)
    counts = GaugeMetricFamily("runbook_page_check_pages", "Pages of the last check, by result.", labels=["result"])
    for result in RESULTS:
        counts.add_metric([result], sum(page["result"] == result for page in newest["pages"]) if newest else 0)
    ended = GaugeMetricFamily(
        "runbook_page_check_timestamp_seconds", "When the last check ended; 0 if none did.", _seconds(newest)
    )
    yield from (measured, values, used, counts, ended)
    speeds = [page["benchmark"] for page in newest["pages"] if "benchmark" in page] if newest else []
    if speeds:
        help_ = "The machine's speed at the last check, by Lighthouse's index."
        yield GaugeMetricFamily("runbook_page_check_benchmark", help_, min(speeds))


def compute_percent(metric: str, value: float, limit: float, *, over: bool) -> float:
    """`score` is the least, all others are the most."""
    part, whole = (limit, value) if metric == "score" else (value, limit)
    percent = _FULL * part / whole if whole else (float("inf") if part else _FULL)
    return max(percent, _BEYOND) if over else min(percent, _FULL)


def _read(store: Store, paths: list[str]) -> tuple[Check | None, dict[str, Check]]:
    """The newest check, and for each path the newest that decided about it."""
    newest: Check | None = None
    decided: dict[str, Check] = {}
    for key in list_keys(store):
        check = read(store, key)
        if check is None:
            continue
        newest = newest or check
        for page in check["pages"]:
            if page["result"] in DECIDED:
                decided.setdefault(page["path"], check)
        if all(path in decided for path in paths):
            break
    return newest, decided


def _seconds(check: Check | None) -> float:
    return datetime.fromisoformat(check["at"]).timestamp() if check else 0.0
