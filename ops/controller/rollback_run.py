"""One rollback: decided on fresh facts, recorded before it begins, reported when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ops.adapters.automation import Run
from ops.commands.rollback import Confirm, Judge, Plan, Wish
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.guard import Verdict
from ops.controller.journal import Doing
from ops.controller.reporter import Reporter
from ops.errors import Interrupted, OpsError
from ops.stack.history import Entry
from ops.stack.locks import Locked
from ops.stack.session import Session
from ops.stack.stack_context import StackContext

RollBack = Callable[[Session, Wish, Confirm, Judge], dict[str, Any]]


class NotNeeded(Exception):
    """Nothing is changed; the verdict says why. `done`: the killed controller had finished it."""

    def __init__(self, verdict: Verdict, *, done: bool = False) -> None:
        self.verdict, self.done = verdict, done
        super().__init__(verdict.why)


class RollbackRun:
    """One rollback, tried until it is done, refused or out of time."""

    def __init__(
        self,
        fresh: Callable[[], Session],
        roll_back: RollBack,
        reporter: Reporter,
        alert: Alert,
        doing: Doing | None = None,
    ) -> None:
        self._fresh, self._roll_back, self._reporter = fresh, roll_back, reporter
        self._alert, self._doing = alert, doing
        self._facts: StackContext | None = None
        self._resuming = doing is not None

    def run(self) -> None:
        alert = self._alert
        session = self._fresh()
        wish = Wish(reason=f"automatic rollback: {alert.name}", preview=False, automatic=True)
        try:
            done = self._roll_back(session, wish, self._begin, self._judge)
        except NotNeeded as reason:
            self._report_not_needed(reason)
        except Locked:
            if not self._resuming:
                self._reporter.given_up()
            raise
        except Interrupted:
            raise
        except OpsError as error:
            self._failed(error)
        else:
            doing = self._doing
            if doing is None:
                raise RuntimeError("a rollback that was never begun cannot have ended")
            seconds = done["seconds"]
            text = (
                f":rewind: *{alert.namespace}*: {alert.name} took revision {doing.leaving} back: revision "
                f"{done['revision']} runs the image of revision {done['target']} again, {seconds} s after the call."
            )
            self._reporter.ended(alert, doing.incident, "rollback", text, revision=done["revision"], seconds=seconds)

    def _judge(self, facts: StackContext) -> None:
        self._facts = facts
        if self._resuming and self._doing:
            return self._still_so(facts, self._doing)
        verdict = guard.decide(self._alert, _situation(facts))
        if verdict.act != "rollback":
            raise NotNeeded(verdict)
        return None

    def _still_so(self, facts: StackContext, doing: Doing) -> None:
        """The decision of a killed controller is valid until another release is deployed."""
        release, newest = facts.now.release, next(facts.history.updates(), None)
        if release is None or newest is None or release.revision == doing.leaving:
            return
        if release.action != "rollback" or release.rollback_of != doing.leaving:
            raise NotNeeded(Verdict("report", f"revision {release.revision} was released in the meantime"))
        if newest.succeeded:
            why = f"the killed controller had finished it: revision {release.revision} runs"
            raise NotNeeded(Verdict("report", why), done=True)

    def _begin(self, plan: Plan, _: Run | None) -> bool:
        """Record the rollback before anything changes."""
        monitoring = self._facts.settings.monitoring if self._facts else None
        if monitoring and monitoring.rollback.dry_run:
            why = f"dry run: revision {plan.leaving.revision} would go back to the release of {plan.target}"
            raise NotNeeded(Verdict("report", why, dry_run=True))
        incident = self._doing.incident if self._doing else None
        self._doing = self._reporter.begun(self._alert, plan.leaving.revision, plan.target, incident)
        return True

    def _report_not_needed(self, reason: NotNeeded) -> None:
        if self._doing is None:
            return self._reporter.unchanged(self._alert, reason.verdict)
        # An incident record is open: close it with the reason.
        why, outcome = reason.verdict.why, "rollback" if reason.done else "report"
        text = f":eyes: *{self._alert.namespace}*: the rollback for {self._alert.name} is no longer needed: {why}."
        return self._reporter.ended(self._alert, self._doing.incident, outcome, text, how=why)

    def out_of_time(self, taken: Locked) -> None:
        """Another update held the lock for too long."""
        if self._doing is None:
            raise taken
        text = f":warning: *{self._alert.namespace}*: {self._alert.name} fires; the rollback could not begin: {taken}"
        self._reporter.ended(self._alert, self._doing.incident, "failed", text, error=str(taken))

    def _failed(self, error: OpsError) -> None:
        if self._doing is None:
            if self._facts is None:
                raise error  # no facts could be read; Alertmanager repeats the alert, which starts another try
            return self._reporter.unchanged(self._alert, Verdict("report", str(error)))
        why = error.brief
        text = f":rotating_light: *{self._alert.namespace}*: the rollback for {self._alert.name} failed: {why}"
        return self._reporter.ended(self._alert, self._doing.incident, "rollback-failed", text, error=why)


def _situation(facts: StackContext) -> guard.Situation:
    monitoring = facts.settings.monitoring
    if monitoring is None:
        raise NotNeeded(Verdict("report", "runbook:monitoring is no longer set"))
    rollback = monitoring.rollback
    return guard.Situation(
        datetime.now(UTC),
        facts.settings.namespace,
        rollback,
        facts.settings.maintenance,
        facts.settings.lockdown,
        facts.now.release,
        _recent(facts, rollback.release_window_seconds + rollback.cooldown_seconds),
    )


def _recent(facts: StackContext, seconds: float) -> list[Entry]:
    """Updates as far back as the decision needs: older pages of the history are not loaded."""
    found: list[Entry] = []
    now = datetime.now(UTC)
    for update in facts.history.updates():
        found.append(update)
        if (now - update.started).total_seconds() > seconds and update.release != facts.now.release:
            break
    return found
