"""One rollback: judged on fresh facts, written down before it begins, and told when it has ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ops.adapters.automation import Run
from ops.commands.rollback import Plan, Wish
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.journal import Doing
from ops.errors import Interrupted, OpsError
from ops.stack.history import Entry
from ops.stack.locks import Locked
from ops.stack.stack_context import StackContext

if TYPE_CHECKING:
    from ops.controller.worker import Worker


class Told(Exception):
    """Nothing is changed; the reason is told."""


class Done(Told):
    """Nothing is left to do."""


class RollbackRun:
    """One rollback, tried until it is done, refused or out of time."""

    def __init__(self, worker: Worker, alert: Alert, doing: Doing | None = None) -> None:
        self._worker, self._alert, self._doing = worker, alert, doing
        self._facts: StackContext | None = None
        self._resuming = doing is not None

    def run(self) -> None:
        worker, alert = self._worker, self._alert
        session = worker.fresh()
        wish = Wish(reason=f"automatic rollback: {alert.name}", preview=False, automatic=True)
        try:
            done = worker.go(session, wish, self._begin, self._judge)
        except Told as told:
            self._told(str(told), "rollback" if isinstance(told, Done) else "tell")
        except Locked:
            if not self._resuming:
                worker.journal.give_up()  # nothing was changed, and what comes next is decided anew
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
            worker.ended(alert, doing.incident, "rollback", text, revision=done["revision"], seconds=seconds)

    def _judge(self, facts: StackContext) -> None:
        self._facts = facts
        if self._resuming and self._doing:
            return self._still_so(facts, self._doing)
        verdict = guard.decide(self._alert, _situation(facts))
        if verdict.act != "rollback":
            raise Told(verdict.why)
        return None

    def _still_so(self, facts: StackContext, doing: Doing) -> None:
        """What a killed controller decided holds until something else was released."""
        release, newest = facts.now.release, next(facts.history.updates(), None)
        if release is None or newest is None or release.revision == doing.leaving:
            return
        if release.action != "rollback" or release.rollback_of != doing.leaving:
            raise Told(f"revision {release.revision} was released in the meantime")
        if newest.succeeded:
            raise Done(f"it was done when the controller was killed: revision {release.revision} runs")

    def _begin(self, plan: Plan, _: Run | None) -> bool:
        """The last moment before anything changes: it is written down first."""
        monitoring = self._facts.settings.monitoring if self._facts else None
        if monitoring and monitoring.rollback.dry_run:
            raise Told(f"dry run: revision {plan.leaving.revision} would go back to the release of {plan.target}")
        leaving = plan.leaving.revision
        incident = self._doing.incident if self._doing else self._worker.open(self._alert, leaving, plan.target)
        self._doing = Doing(self._alert.to_dict(), leaving, plan.target, incident)
        self._worker.journal.begin(self._doing)
        return True

    def _told(self, why: str, outcome: str) -> None:
        if self._doing is None:
            return self._worker.tell(self._alert, why)
        # A record was opened: it tells how that ended.
        text = f":eyes: *{self._alert.namespace}*: {self._alert.name} had to be acted upon, and is no longer: {why}."
        return self._worker.ended(self._alert, self._doing.incident, outcome, text, how=why)

    def out_of_time(self, taken: Locked) -> None:
        """Somebody else's update did not end."""
        if self._doing is None:
            raise taken
        text = f":warning: *{self._alert.namespace}*: {self._alert.name} fires, and nothing could be done: {taken}"
        self._worker.ended(self._alert, self._doing.incident, "failed", text, error=str(taken))

    def _failed(self, error: OpsError) -> None:
        if self._doing is None:
            if self._facts is None:
                raise error  # nothing could be looked at: when Alertmanager says it again, it is tried again
            return self._worker.tell(self._alert, str(error))
        why = error.brief
        text = f":rotating_light: *{self._alert.namespace}*: the rollback for {self._alert.name} failed: {why}"
        return self._worker.ended(self._alert, self._doing.incident, "rollback-failed", text, error=why)


def _situation(facts: StackContext) -> guard.Situation:
    monitoring = facts.settings.monitoring
    if monitoring is None:
        raise Told("runbook:monitoring is not set any more")
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
    """Updates as far back as they matter: the history of years is not read for it."""
    found: list[Entry] = []
    now = datetime.now(UTC)
    for update in facts.history.updates():
        found.append(update)
        if (now - update.started).total_seconds() > seconds and update.release != facts.now.release:
            break
    return found
