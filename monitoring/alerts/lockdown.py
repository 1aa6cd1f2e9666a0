"""A lockdown explains failing probes of the front door; after its end, its gate and suspended CronJobs stay as
they are until it is unlocked."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Case
from monitoring.alerts.rule import Alert
from settings.lockdown import Lockdown

LOCKED, LOCK_OVER = "Lockdown", "LockdownOver"
_CHAPTER = 'HerbisVeritas "Emergency Commands": security:lockdown'
_GRACE = 300
"""Seconds in which the rollback controller or an operator unlocks."""


def locked(lockdown: Lockdown) -> tuple[Alert, Alert]:
    end = int(lockdown.until.timestamp())
    known = "a clock: it needs no metrics"
    over = end + _GRACE
    left = "CronJobs are still suspended: no backups" if lockdown.suspends else "its gate still forwards every request"
    return (
        Alert(
            name=LOCKED,
            measure="vector(time())",
            operator="<",
            limit=end,
            severity="info",
            # The reason is an operator's text, and may look like a template.
            summary=f"locked down ({lockdown.reason.replace('{{', '{ {')}): alerts on the front door are muted",
            about="lockdown",
            channel="security",
            chapter=_CHAPTER,
            missing=known,
            advice="`runbook security status`; `runbook security unlock` when the attack is over",
            on_absence=True,
            more=(_around(end, before=True),),
        ),
        Alert(
            name=LOCK_OVER,
            measure="vector(time())",
            operator=">=",
            limit=over,
            severity="warning",
            summary=f"the lockdown ended more than {_GRACE} s ago, and {left}",
            about="lockdown",
            channel="alerts",
            chapter=_CHAPTER,
            missing=known,
            advice="`runbook security unlock`",
            on_absence=True,
            more=(_around(over, before=False),),
        ),
    )


def _around(moment: int, *, before: bool) -> Case:
    """Just before a moment and just after it."""
    step = max(30, moment // 100)
    last = (moment - 1) // step * step
    return Case(title="by the clock", series={}, checks=((last, before), (last + step, not before)), step=step)
