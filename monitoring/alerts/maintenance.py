"""Preventive maintenance (HerbisVeritas "Maintenance Préventive"). The metrics are read from the reports that are kept:
what a run did counts, not how its Job ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from monitoring.alerts.promtool_cases import Boundary, Case, steady
from monitoring.alerts.rule import Alert, Domain
from settings.maintenance_tasks import MaintenanceTasks

EVERY = 60
_STEP = 300
_HOUR = 3600
_NEWS = 900
"""Seconds in which the outcome of a run is reported."""
_RUN, _REPORT = "runbook_maintenance_last_run_timestamp_seconds", "runbook_maintenance_report_timestamp_seconds"
_FAILED = "runbook_maintenance_task_failed"


def maintenance_runs(tasks: MaintenanceTasks, zone: str) -> Domain:
    """`zone`: the time zone of the schedules."""
    return Domain(
        name="maintenance", title="Preventive maintenance", every=EVERY, alerts=tuple(_runs(tasks, zone))
    )  # fmt: skip


def _runs(tasks: MaintenanceTasks, zone: str) -> Iterator[Alert]:
    common: dict[str, Any] = {
        "chapter": 'HerbisVeritas "Maintenance Préventive"',
        "missing": "without the exporter: `BackupExporterAway`",
        "channel": "alerts",
    }
    for schedule in tasks.expected:
        of = tasks.of(schedule)
        limit, labelled = tasks.missed_seconds(schedule, zone), f'{_RUN}{{schedule="{schedule}"}}'
        step = max(_STEP, limit // 100 // 60 * 60)
        last = (limit + 1) // step * step
        yield Alert(
            name="MaintenanceMissed",
            measure=f"time() - {labelled}",
            operator=">",
            limit=limit,
            after=f"and {labelled} > 0",
            shown=f"time() - {labelled} and {labelled} > 0",
            severity="warning",
            summary=f"no {schedule} maintenance has run for {limit / _HOUR:g} h, or all of it was put off",
            about=f"maintenance-{schedule}",
            advice=f"`runbook maintenance report {schedule}` shows why it was put off; is the CronJob "
            f"`maintenance-{schedule}` suspended? `runbook maintenance run {schedule}`",
            labels={"schedule": schedule},
            more=(
                Case(
                    title="just older, and just not",
                    series={labelled: steady(1)},
                    checks=((last, False), (last + step, True)),
                    step=step,
                ),
                Case(
                    title="never: another alert's",
                    series={labelled: steady(0)},
                    checks=((last + step, False),),
                    step=step,
                ),
            ),
            **common,
        )
        yield Alert(
            name="MaintenanceNeverRan",
            measure=f"{labelled} == 0",
            lasting=limit,
            severity="warning",
            summary=f"the schedule of the {schedule} maintenance ({of.schedule} {zone}) has never run one",
            about=f"maintenance-{schedule}",
            advice=f"is the CronJob `maintenance-{schedule}` suspended, or refused by a quota? "
            f"`runbook maintenance run {schedule}`",
            labels={"schedule": schedule},
            boundary=Boundary(beyond={labelled: steady(0)}, within={labelled: steady(1)}, step=step),
            **common,
        )
    names = tasks.expected
    if not names:
        return
    example = {"schedule": names[0], "task": tasks.of(names[0]).enabled[0].title}
    series = f'{_FAILED}{{schedule="{example["schedule"]}",task="{example["task"]}"}}'
    yield Alert(
        name="MaintenanceFailed",
        measure=f"{_FAILED}{{}} == 1",
        severity="warning",
        summary="{{ $labels.task }} failed in the last {{ $labels.schedule }} maintenance",
        about="maintenance-task",
        advice="`runbook maintenance report {{ $labels.schedule }}`",
        boundary=Boundary(beyond={series: steady(1)}, within={series: steady(0)}, step=_STEP, labels=example),
        **common,
    )
    ran = {"schedule": names[0], "summary": "5 of 5 tasks done"}
    report = f'{_REPORT}{{schedule="{ran["schedule"]}",summary="{ran["summary"]}"}}'
    yield Alert(
        name="MaintenanceRan",
        measure=f"time() - {_REPORT}{{}}",
        operator="<",
        limit=_NEWS,
        severity="info",
        summary="{{ $labels.schedule }} maintenance: {{ $labels.summary }}",
        about="maintenance-report",
        advice="`runbook maintenance report {{ $labels.schedule }}`",
        more=(
            Case(
                title="just now",
                series={report: steady(_STEP)},
                checks=((_STEP + _NEWS - _STEP, True), (_STEP + _NEWS, False)),
                step=_STEP,
                labels=ran,
            ),
        ),
        **common,
    )
