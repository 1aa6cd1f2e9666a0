"""Metrics of maintenance, from the reports in the store. MAINTENANCE_SCHEDULES: the schedules that are expected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.maintenance_tasks import report as reports
from tasks.metrics import Metric
from tasks.progress import say
from tasks.store import Missing, Store

_RESULTS = ("done", "failed", "put off", "not run")


def maintenance(environment: Environment, store: Store) -> Iterator[Metric]:
    """Times are 0 for what never happened."""
    ran: list[tuple[str, float]] = []
    ended: list[tuple[str, float]] = []
    seconds: list[tuple[str, float]] = []
    counts: list[tuple[str, float]] = []
    failed: list[tuple[str, float]] = []
    for schedule in environment.words("MAINTENANCE_SCHEDULES"):
        label = f'schedule="{schedule}"'
        newest, worked = _read(store, schedule)
        ran.append((f"{{{label}}}", _ended(worked)))
        if newest is None:
            continue
        ended.append((f'{{{label},summary="{_quoted(newest["summary"])}"}}', _ended(newest)))
        seconds.append((f"{{{label}}}", float(newest["seconds"])))
        for result in _RESULTS:
            of = sum(task["result"] == result for task in newest["tasks"])
            counts.append((f'{{{label},result="{result}"}}', float(of)))
        for task in (worked or newest)["tasks"]:
            value = float(task["result"] in ("failed", "not run"))
            failed.append((f'{{{label},task="{_quoted(task["name"])}"}}', value))
    yield Metric(
        "runbook_maintenance_last_run_timestamp_seconds",
        "When the last run ended that was not put off as a whole; 0 if there was none.",
        ran,
    )
    yield Metric("runbook_maintenance_report_timestamp_seconds", "When the last run ended, and its summary.", ended)
    yield Metric("runbook_maintenance_run_seconds", "How long the last run took.", seconds)
    yield Metric("runbook_maintenance_tasks", "Tasks of the last run.", counts)
    yield Metric("runbook_maintenance_task_failed", "1 if the task failed or did not run the last time.", failed)


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


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
