"""One automatic lockdown, and its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ops.commands.lockdown import switch_lockdown
from ops.commands.update import LockPolicy, require_unlocked
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.guard import Verdict
from ops.controller.reporter import Reporter
from ops.stack.history import Entry
from ops.stack.locks import Locked
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import StackSettings
from settings.lockdown import LONGEST


class LockdownRun:
    """What an alert asks for, tried once."""

    def __init__(self, fresh: Callable[[], Session], policy: LockPolicy, reporter: Reporter, alert: Alert) -> None:
        self._fresh, self._policy, self._reporter, self._alert = fresh, policy, reporter, alert

    def run(self) -> Verdict | None:
        """Why nothing was done; None when the shop was locked down, which is reported then."""
        session = self._fresh()
        try:
            require_unlocked(session, self._policy)
            return self._run(session)
        except Locked as taken:
            return guard.wait_for(taken)

    def _run(self, session: Session) -> Verdict | None:
        alert, now = self._alert, datetime.now(UTC)
        # Written by the last update when the session was opened.
        settings = load_settings(session.file)
        if settings.monitoring is None:
            return Verdict("report", "runbook:monitoring is no longer set")
        verdict = guard.decide(alert, _situation(session, settings, now))
        if verdict.act != "lockdown":
            return verdict
        reason = f"alert {alert.name}: {alert.annotations.get('summary', '')}"
        wanted = settings.security.lockdown(reason, now, automatic=True)
        if settings.monitoring.rollback.dry_run:
            why = f"dry run: the shop would be locked down until {wanted.until}"
            return Verdict("report", why, dry_run=True)
        done = switch_lockdown(session, self._policy, wanted)
        self._reporter.locked_down(alert, wanted, done)
        return None


def end_lockdown(session: Session, policy: LockPolicy) -> bool:
    """After an expired lockdown, remove its gate and resume CronJobs, which needs an update. False without one."""
    found = load_settings(session.file).lockdown
    if found is None or not found.over(datetime.now(UTC)):
        return False
    switch_lockdown(session, policy, None)
    return True


def _situation(session: Session, settings: StackSettings, now: datetime) -> guard.Situation:
    if settings.monitoring is None:
        raise ValueError("a stack with a controller has monitoring")
    cooldown = settings.security.lockdown_cooldown_seconds
    return guard.Situation(
        now,
        settings.namespace,
        settings.monitoring.rollback,
        settings.maintenance,
        settings.lockdown,
        settings.release,
        _recent(session, now - timedelta(seconds=cooldown) - LONGEST),
        lockdown_cooldown_seconds=cooldown,
        escalation=settings.monitoring.slack.escalation_security,
    )


def _recent(session: Session, since: datetime) -> list[Entry]:
    """Updates since then: a lockdown that began before ended before the cooldown."""
    found: list[Entry] = []
    for update in session.history().updates():
        found.append(update)
        if update.started < since:
            break
    return found
