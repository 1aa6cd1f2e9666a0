"""One rollback: judged on fresh facts, recorded before it begins, reported when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ops.commands.rollback import Plan, Wish, carry_out, make_plan
from ops.commands.update import LockPolicy, StackLock, keep_applied, prepare_update, require_unlocked
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.evidence import read_health_answers
from ops.controller.guard import Verdict
from ops.controller.journal import Doing
from ops.controller.publication import publish_news
from ops.controller.reporter import Reporter
from ops.decisions.health_checks import blameless
from ops.errors import Interrupted, OpsError, Refused
from ops.stack.history import Entry
from ops.stack.locks import Locked
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context
from settings import Monitoring, StackSettings
from settings.budget import rollback_budget


class RollbackRun:
    """What an alert asks for, tried once. `doing`: the rollback that a killed controller left."""

    def __init__(
        self,
        fresh: Callable[[], Session],
        policy: LockPolicy,
        reporter: Reporter,
        alert: Alert,
        doing: Doing | None = None,
    ) -> None:
        self._fresh, self._policy, self._reporter = fresh, policy, reporter
        self._alert, self._doing = alert, doing
        self._wish = Wish(reason=f"automatic rollback: {alert.name}", preview=False, automatic=True)

    def run(self) -> Verdict | None:
        """Why nothing was done; None when a rollback was begun and has ended, which is reported then."""
        session = self._fresh()
        try:
            # The rollback begins and ends here: one lock for all of it.
            with StackLock(session, "rollback", self._policy):
                return self._run(session)
        except Locked as taken:
            return guard.wait_for(taken)

    def _run(self, session: Session) -> Verdict | None:
        # Plain `pulumi up` holds the engine's lock only, and is not in the history before its end: facts that are read
        # now would be of the release before.
        require_unlocked(session, self._policy)
        facts = gather_context(session, decides="release")
        verdict = self._resumed(facts, self._doing) if self._doing else self._judge(facts)
        if verdict.act != "rollback":
            return verdict
        try:
            plan = make_plan(session, facts, self._wish)
        except Refused as refused:
            if self._doing:
                return self._failed(self._doing, refused)
            return Verdict("report", str(refused))
        monitoring = facts.settings.monitoring
        if monitoring and monitoring.rollback.dry_run:
            why = f"dry run: revision {plan.leaving.revision} would go back to the release of {plan.target}"
            return Verdict("report", why, dry_run=True)
        prepare_update(session, facts, self._policy)
        return self._carry_out(session, facts, plan)

    def _carry_out(self, session: Session, facts: StackContext, plan: Plan) -> Verdict | None:
        alert, incident = self._alert, self._doing.incident if self._doing else None
        doing = self._reporter.begun(alert, plan.leaving.revision, plan.target, incident)
        # Not to a bucket: a rollback does not wait for servers elsewhere. The worker copies it within a minute.
        publish_news(facts.cluster, facts.settings, copy=False)
        try:
            with keep_applied(session):
                done = carry_out(session, facts, plan, self._wish, self._policy)
        except Interrupted:
            raise
        except Locked as taken:
            if self._doing is None:
                self._reporter.given_up(doing.incident, taken.brief)
            raise
        except Refused as refused:  # nothing was changed
            if self._doing:
                return self._failed(doing, refused)
            self._reporter.given_up(doing.incident, refused.brief)
            return guard.wait("refused", str(refused))
        except OpsError as error:
            self._failed(doing, error)
        else:
            self._succeeded(doing, done)
        return None

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self, facts: StackContext) -> Verdict:
        monitoring = facts.settings.monitoring
        if monitoring is None:
            return Verdict("report", "runbook:monitoring is no longer set")
        verdict = guard.decide(self._alert, _situation(facts, monitoring))
        if verdict.act != "rollback":
            return verdict
        answers = read_health_answers(facts.cluster, facts.settings)
        if missing := blameless(answers, monitoring.rollback.dependencies):
            why = (
                f"of the health checks only {' and '.join(missing)} fail{'s' if len(missing) == 1 else ''}, which "
                "the release before would miss as well (runbook:monitoring.rollback.dependencies)"
            )
            return guard.wait("dependency", why)
        return verdict

    def _resumed(self, facts: StackContext, doing: Doing) -> Verdict:
        """The decision of a killed controller is valid until another release is deployed."""
        release, newest = facts.now.release, next(facts.history.updates(), None)
        if release is None or newest is None or release.revision == doing.leaving:
            return Verdict("rollback")
        if release.action != "rollback" or release.rollback_of != doing.leaving:
            return Verdict("report", f"revision {release.revision} was released in the meantime")
        if newest.succeeded:
            return Verdict("done", f"the killed controller had finished it: revision {release.revision} runs")
        return Verdict("rollback")

    # -- its end ---------------------------------------------------------------------------------

    def _succeeded(self, doing: Doing, done: dict[str, Any]) -> None:
        alert, seconds = self._alert, done["seconds"]
        text = (
            f":rewind: *{alert.namespace}*: {alert.name} took revision {doing.leaving} back: revision "
            f"{done['revision']} runs the image of revision {done['target']} again, {seconds} s after the call."
        )
        self._reporter.ended(alert, doing.incident, "rollback", text, revision=done["revision"], seconds=seconds)

    def _failed(self, doing: Doing, error: OpsError) -> None:
        why = error.brief
        text = f":rotating_light: *{self._alert.namespace}*: the rollback for {self._alert.name} failed: {why}"
        self._reporter.ended(self._alert, doing.incident, "rollback-failed", text, error=why)


def _situation(facts: StackContext, monitoring: Monitoring) -> guard.Situation:
    rollback = monitoring.rollback
    return guard.Situation(
        datetime.now(UTC),
        facts.settings.namespace,
        rollback,
        facts.settings.maintenance,
        facts.settings.lockdown,
        facts.now.release,
        _recent(facts, rollback.release_window_seconds + rollback.cooldown_seconds),
        _windows(monitoring, facts.settings),
    )


def _windows(monitoring: Monitoring, settings: StackSettings) -> dict[str, float]:
    """Each alert's own window, and the time until its end is noticed."""
    noticed = monitoring.scrape_seconds + 2 * monitoring.evaluation_seconds
    budget = rollback_budget(monitoring, settings.application)
    return {name: seconds + noticed for name, seconds in budget.windows.items()}


def _recent(facts: StackContext, seconds: float) -> list[Entry]:
    """Updates as far back as the decision needs: older pages of the history are not loaded."""
    found: list[Entry] = []
    now = datetime.now(UTC)
    for update in facts.history.updates():
        found.append(update)
        if (now - update.started).total_seconds() > seconds and update.release != facts.now.release:
            break
    return found
