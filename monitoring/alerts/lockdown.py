"""A lockdown explains a front door that is closed; when it is over, CronJobs still wait for somebody."""

from __future__ import annotations

from datetime import timedelta

from monitoring.alerts.promtool_cases import Case
from monitoring.alerts.rule import Alert, seconds
from settings.lockdown import Lockdown

LOCKED, LOCK_OVER = "Lockdown", "LockdownOver"
_CHAPTER = 'HerbisVeritas "Emergency Commands": security:lockdown'
_GRACE = timedelta(minutes=5)
"""In which the rollback controller, or whoever is there, unlocks."""


def locked(lockdown: Lockdown) -> tuple[Alert, Alert]:
    end = int(lockdown.until.timestamp())
    known = "a clock: it needs no metrics"
    return (
        Alert(
            LOCKED,
            f"vector(time()) < {end}",
            timedelta(),
            "info",
            # The reason is somebody's text, and may look like a template.
            f"locked down ({lockdown.reason.replace('{{', '{ {')}): a front door that is closed is not told",
            about="lockdown",
            channel="security",
            chapter=_CHAPTER,
            missing=known,
            advice="`runbook security status`; `runbook security unlock` when the attack is over",
            on_absence=True,
            cases=(_around(end, before=True),),
        ),
        Alert(
            LOCK_OVER,
            f"vector(time()) >= {end + int(_GRACE.total_seconds())}",
            timedelta(),
            "warning",
            f"the lockdown ended more than {seconds(_GRACE)} ago, and CronJobs do not start yet: backups neither",
            about="lockdown",
            channel="alerts",
            chapter=_CHAPTER,
            missing=known,
            advice="`runbook security unlock`",
            on_absence=True,
            cases=(_around(end + int(_GRACE.total_seconds()), before=False),),
        ),
    )


def _around(moment: int, *, before: bool) -> Case:
    """Just before a moment and just after; however long ago clocks began."""
    step = max(30, moment // 100)
    last = (moment - 1) // step * step
    return Case(title="by the clock", series={}, checks=((last, before), (last + step, not before)), step=step)
