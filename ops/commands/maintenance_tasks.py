"""`runbook maintenance run|report` (HerbisVeritas "Maintenance Préventive"): runs tasks now, and reads reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ops.commands.backups import tasks_of
from ops.errors import Refused
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import MaintenanceTasks
from settings.cron import next_cron_job_run
from settings.maintenance_tasks import SCHEDULES
from settings.stack import StackSettings


def run_tasks(session: Session, schedule: str, names: Sequence[str]) -> dict[str, Any]:
    """The report of a run made now, of all tasks of a schedule or of these."""
    settings, found = _read(session, schedule)
    for name, why in (("lockdown", settings.lockdown), ("maintenance", settings.maintenance)):
        if why:
            raise Refused(
                f"runbook:{name} is on ({why.reason}): no maintenance runs meanwhile. Run this again afterwards."
            )
    known = [task.title for task in found.of(schedule).enabled]
    if unknown := [name for name in names if name not in known]:
        raise Refused(
            f"The {schedule} maintenance has no task {', '.join(unknown)}; it has {', '.join(known) or 'none'} "
            f"(runbook:maintenanceTasks.{schedule} in {session.file.name})."
        )
    if not known:
        raise Refused(
            f"The {schedule} maintenance has no task: write some to runbook:maintenanceTasks.{schedule}.tasks."
        )
    return tasks_of(session).run_maintenance(schedule, names)


def read_report(session: Session, schedule: str, run: str | None) -> dict[str, Any]:
    """{report, html, text, next}: a report that was kept, the newest by default."""
    _check(schedule)
    words = ("--run", run) if run else ()
    found: dict[str, Any] = tasks_of(session).run("maintenance", "report", schedule, *words)
    return {**found, "next": find_next_run(load_settings(session.file), schedule, datetime.now(UTC))}


def list_runs(session: Session, schedule: str) -> list[str]:
    """Names of the runs that have a report, newest first."""
    _check(schedule)
    found: list[str] = tasks_of(session).run("maintenance", "runs", schedule)
    return found


def find_next_run(settings: StackSettings, schedule: str, now: datetime) -> str | None:
    """When the CronJob starts next, in its time zone; None if it does not."""
    tasks = settings.maintenance_tasks
    if not (tasks and settings.backup) or settings.lockdown or settings.maintenance or schedule not in tasks.expected:
        return None
    zone = tasks.zone(settings.backup)
    return f"{next_cron_job_run(tasks.of(schedule).schedule, now, zone):%Y-%m-%d %H:%M} {zone}"


def _read(session: Session, schedule: str) -> tuple[StackSettings, MaintenanceTasks]:
    _check(schedule)
    settings = load_settings(session.file)
    if settings.maintenance_tasks is None:
        raise Refused(
            f"{session.file.name} has no runbook:maintenanceTasks, so stack {session.stack} has no maintenance: write "
            "it (docs/maintenance.md), then deploy."
        )
    return settings, settings.maintenance_tasks


def _check(schedule: str) -> None:
    if schedule not in SCHEDULES:
        raise Refused(f"There is no schedule {schedule!r}: write {', '.join(SCHEDULES[:-1])} or {SCHEDULES[-1]}.")
