"""An update that failed and was not followed up. `runbook deploy` restores the release before by itself; a plain
`pulumi up` leaves the stack half-way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ops.commands.rollback import Wish
from ops.commands.update import LockPolicy
from ops.controller import guard
from ops.controller.alerts import Alert, Hint
from ops.controller.guard import Verdict
from ops.controller.journal import Journal
from ops.controller.reporter import Reporter
from ops.controller.rollback_run import RollbackRun
from ops.decisions.release_state import last_good
from ops.decisions.rollback_target import rollback_target
from ops.errors import Refused
from ops.stack.history import Entry
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, load_settings
from settings.monitoring import Rollback

NAME = "UpdateNotFinished"
_RELEASING = ("update", "deploy")
"""Actions of an update after which the release before can be restored; the others are finished by the same command."""


def follow_up(
    session: Session, fresh: Callable[[], Session], policy: LockPolicy, reporter: Reporter, journal: Journal
) -> None:
    """Look at the newest update, and act once for each that failed, when its time is over."""
    newest, settings = next(session.history().updates(), None), load_settings(session.file)
    if newest is None or settings.monitoring is None:
        return
    if not is_due(newest, settings.monitoring.rollback, datetime.now(UTC)):
        return
    alert = _as_alert(newest, settings.namespace)
    if journal.handled(alert.hint.key):
        return
    verdict = FollowUpRun(fresh, policy, reporter, alert).run()
    if verdict and verdict.again_seconds is None:
        reporter.not_followed_up(alert, verdict)


def is_due(newest: Entry, settings: Rollback, now: datetime) -> bool:
    """Whether it failed, and the time in which people act is over."""
    if not settings.enabled or newest.succeeded:
        return False
    return (now - (newest.ended or newest.started)).total_seconds() >= settings.unfinished_seconds


def _as_alert(newest: Entry, namespace: str) -> Alert:
    """So that it is judged, recorded and remembered as what Prometheus finds."""
    return Alert(Hint(NAME, newest.started), {"alertname": NAME, "namespace": namespace}, {})


class FollowUpRun(RollbackRun):
    """Restores the release before, or says what to type."""

    def __init__(self, fresh: Callable[[], Session], policy: LockPolicy, reporter: Reporter, alert: Alert) -> None:
        super().__init__(fresh, policy, reporter, alert)
        # Why it failed is not known: the release is not quarantined for it.
        self._wish = Wish(reason=f"automatic rollback: {alert.name}", quarantine=False, preview=False, automatic=True)

    def _judge(self, facts: StackContext) -> Verdict:
        newest, monitoring = next(facts.history.updates(), None), facts.settings.monitoring
        if newest is None or monitoring is None or newest.succeeded or newest.started != self._alert.hint.starts_at:
            return guard.wait("followed up", "another update has run meanwhile")
        return decide(facts, newest, monitoring.rollback)


def decide(facts: StackContext, newest: Entry, settings: Rollback) -> Verdict:
    """Restore, or report with the exact command."""
    stack, file = facts.text.path.name.removeprefix("Pulumi.").removesuffix(".yaml"), facts.text.path.name
    what = f"the last update ({newest.message.strip() or newest.action}, {newest.started:%H:%M} UTC) {newest.result}"
    half_way = f"{what}, and was not followed up: the stack is half-way"
    if newest.action not in _RELEASING:
        return Verdict("report", f"{half_way}. Run the command of that update ({newest.action}) again")
    good = last_good(facts.history)
    if good and good.written == newest.written and good.restored() == newest.restored():
        keys = sorted(key for key in {*good.config, *newest.config} if good.config.get(key) != newest.config.get(key))
        undo = f" what it changed ({', '.join(keys)})" if keys else " the cause"
        return Verdict("report", f"{half_way}. Undo or mend{undo} in {file}, then `pulumi up --stack {stack}`")
    try:
        target = rollback_target(facts.history, facts.now, None, allow_quarantined=False)
    except Refused as refused:
        return Verdict("report", f"{half_way}. {refused} Mend it, then `pulumi up --stack {stack}`")
    if facts.settings.maintenance or settings.unfinished == "report":
        return Verdict(
            "report", f"{half_way}. To restore revision {target.revision}: `runbook rollback --stack {stack}`"
        )
    return Verdict("rollback")
