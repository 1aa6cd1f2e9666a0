"""`runbook metrics NAME` (HerbisVeritas "Status Commands"): the settings' SQL, run read-only in the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.adapters.task_jobs import Tasks
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings.operations import OPERATIONS, Metric

POINTS = 60
"""Points of a plot: what fits on a terminal of 80 columns."""


def read_metric(session: Session, name: str, last_seconds: int, end: datetime | None = None) -> dict[str, Any]:
    """The points of a metric until now, or until `end`, and of the same time before it, which it is compared with."""
    settings = load_settings(session.file)
    metric = settings.operations.metrics.get(name)
    if metric is None:
        raise Refused(_describe_missing(session.file.name, name, sorted(settings.operations.metrics)))
    cluster = session.cluster(settings, stack_file.read(session.file).config)
    until = (end or cluster.read_clock().now()).astimezone(UTC).replace(microsecond=0)
    since = until - timedelta(seconds=2 * last_seconds)
    found = Tasks(cluster, session.say).debug(
        *("metric", "--query", metric.query, "--since", since.isoformat(), "--until", until.isoformat()),
        *("--points", str(2 * POINTS), "--seconds", str(settings.operations.query_seconds)),
    )
    return compare_periods(name, metric, found, until - timedelta(seconds=last_seconds))


def compare_periods(name: str, metric: Metric, found: dict[str, Any], begin: datetime) -> dict[str, Any]:
    """The points from `begin` on, with the sum (or mean) of each column in both periods."""
    times = [datetime.fromisoformat(each) for each in found["times"]]
    split = next((place for place, each in enumerate(times) if each >= begin), len(times))
    columns = {}
    for column, points in found["columns"].items():
        filled = [0 if value is None and metric.total else value for value in points]
        columns[column] = {
            "points": filled[split:],
            "value": _sum_up(filled[split:], total=metric.total),
            "before": _sum_up(filled[:split], total=metric.total),
        }
    return {
        "metric": name,
        "unit": metric.unit,
        "value": "sum" if metric.total else "mean",
        "since": begin.isoformat(timespec="seconds"),
        "until": found["until"],
        "stepSeconds": found["stepSeconds"],
        "times": found["times"][split:],
        "columns": columns,
    }


def _sum_up(points: Sequence[float | None], *, total: bool) -> float | None:
    known = [value for value in points if value is not None]
    if not known:
        return None
    return round(sum(known) if total else sum(known) / len(known), 4)


def _describe_missing(file: str, name: str, known: list[str]) -> str:
    there = f"; it has {', '.join(known)}" if known else ""
    query = (
        "SELECT date_bin(:step, created_at, :since) AS time, count(*) AS orders\n"
        "          FROM orders WHERE created_at >= :since AND created_at < :until GROUP BY 1"
    )
    return (
        f"{file} has no metric {name}{there}. Write its SQL (docs/quick-reference.md), for example\n"
        f"  {OPERATIONS}:\n    metrics:\n      {name}:\n        query: >-\n          {query}\nNo deploy is needed."
    )
