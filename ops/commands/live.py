"""`runbook status --watch`: what one wants to see during a release, or at three in the morning."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from ops.commands import measures
from ops.commands.measures import measure
from ops.commands.status import is_healthy, read_status
from ops.errors import OpsError
from ops.stack import incidents, stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import StackSettings

SPAN = 60
"""Seconds that rates are over."""


def read_frame(session: Session) -> dict[str, Any]:
    """One refresh. What could not be read is None, and a problem says why: the screen goes on."""
    frame: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "stack": session.stack}
    problems: list[str] = []
    try:
        settings = load_settings(session.file)
        cluster = session.cluster(settings, stack_file.read(session.file).config)
    except OpsError as error:
        return {**frame, "healthy": None, "status": None, "problems": [str(error)]}
    with ThreadPoolExecutor(max_workers=3) as pool:
        status_ = pool.submit(read_status, session)
        measured_ = pool.submit(measure, settings, cluster, _queries(settings))
        records_ = pool.submit(incidents.list_incidents, cluster)
        status = _or_problem(status_.result, problems)
        records = _or_problem(records_.result, problems)
        measured = measured_.result()
    problems += [*(status or {}).get("problems", ()), *measured.notes]
    return {
        **frame,
        "healthy": None if status is None else is_healthy(status) and not status["problems"],
        "status": status,
        "maintenance": settings.maintenance.to_config() if settings.maintenance else None,
        **_of_metrics(measured),
        "incidents": None if records is None else [one for one in records if "closedAt" not in one],
        "problems": list(dict.fromkeys(problems)),
    }


def _queries(settings: StackSettings) -> Mapping[str, str]:
    monitoring = settings.monitoring
    return {
        **measures.ALERTS,
        **(measures.requests(monitoring, SPAN) if monitoring else {}),
        **(measures.BACKUPS if settings.backup else {}),
        **measures.SECRETS,
    }


def _of_metrics(measured: measures.Measures) -> dict[str, Any]:
    rotating, overdue = measured.samples("rotating"), measured.samples("overdue")
    return {
        "alerts": measured.alerts(),
        "requests": {name: measured.number(name) for name in ("perSecond", "errorPercent", "p50", "p95", "p99")},
        "backups": {name: measured.number(name, 0) for name in ("backupAge", "provenAge")},
        "rotations": None
        if rotating is None or overdue is None
        else {
            "running": {one.labels.get("secret", "?"): one.labels.get("phase", "?") for one in rotating},
            "overdue": sorted(one.labels.get("secret", "?") for one in overdue),
        },
    }


def _or_problem(read: Any, problems: list[str]) -> Any:
    try:
        return read()
    except OpsError as error:
        problems.append(error.brief)
        return None
