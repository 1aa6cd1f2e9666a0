"""Metrics of maintenance, from the reports in the store. MAINTENANCE_SCHEDULES: the schedules that are expected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.maintenance_tasks import report as reports
from tasks.progress import say
from tasks.store import Missing, Store

_RESULTS = ("done", "failed", "put off", "not run")


def maintenance(environment: Environment, store: Store) -> Iterator[Metric]:
    """Times are 0 for what never happened."""
    ran = GaugeMetricFamily(
        "runbook_maintenance_last_run_timestamp_seconds",
        "When the last run ended that was not put off as a whole; 0 if there was none.",
        labels=["schedule"],
    )
    ended = GaugeMetricFamily(
        "runbook_maintenance_report_timestamp_seconds",
        "When the last run ended, and its summary.",
        labels=["schedule", "summary"],
    )
    seconds = GaugeMetricFamily("runbook_maintenance_run_seconds", "How long the last run took.", labels=["schedule"])
    counts = GaugeMetricFamily("runbook_maintenance_tasks", "Tasks of the last run.", labels=["schedule", "result"])
    failed = GaugeMetricFamily(
        "runbook_maintenance_task_failed",
        "1 if the task failed or did not run the last time.",
        labels=["schedule", "task"],
    )
    for schedule in environment.words("MAINTENANCE_SCHEDULES"):
        newest, worked = _read(store, schedule)
        ran.add_metric([schedule], _ended(worked))
        if newest is None:
            continue
        ended.add_metric([schedule, newest["summary"]], _ended(newest))
        seconds.add_metric([schedule], float(newest["seconds"]))
        for result in _RESULTS:
            of = sum(task["result"] == result for task in newest["tasks"])
            counts.add_metric([schedule, result], of)
        for task in (worked or newest)["tasks"]:
            value = float(task["result"] in ("failed", "not run"))
            failed.add_metric([schedule, task["name"]], value)
    yield from (ran, ended, seconds, counts, failed)


def _read(store: Store, schedule: str) -> tuple[reports.Report | None, reports.Report | None]:
    """The newest report of a whole run, and the newest of which not every task was put off."""
    newest: reports.Report | None = None
    for run in reports.list_runs(store, schedule):
        if run.endswith(reports.PARTIAL):
            continue
        try:
            report = reports.read(store, schedule, run)
        except Missing:
            continue
        except TaskError as error:
            if error.code != "report_invalid":
                raise
            say(f"warning: {error}")
            continue
        newest = newest or report
        if any(task["result"] != "put off" for task in report["tasks"]):
            return newest, report
    return newest, None


def _ended(report: dict[str, Any] | None) -> float:
    return datetime.fromisoformat(report["ended_at"]).timestamp() if report else 0.0
