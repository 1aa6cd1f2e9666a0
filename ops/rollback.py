"""`runbook rollback`: the gate, the question, one update without migrations, and proof that it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops import decisions, health
from ops.deploy import report
from ops.engine import Run
from ops.errors import Refused, Stuck
from ops.facts import Facts, gather
from ops.history import RELEASE
from ops.locks import exclusive, whoami
from ops.progress import Progress
from ops.session import Session
from ops.stackfile import StackText
from ops.update import LockPolicy, apply, clear_way
from settings import Quarantined, Release


@dataclass(frozen=True)
class Wish:
    """What the operator asked for."""

    to: int | None = None
    reason: str = "rolled back by hand"
    quarantine: bool = True
    allow_quarantined: str | None = None
    preview: bool = True


@dataclass(frozen=True)
class Plan:
    """What the rollback would write."""

    leaving: Release
    release: Release
    text: StackText
    differences: list[tuple[str, Any, Any]]
    target: int


Confirm = Callable[[Plan, Run | None], bool]


def rollback(session: Session, wish: Wish, policy: LockPolicy, confirm: Confirm) -> dict[str, Any]:
    """Go back to an earlier release. Returns what to report, or raises an OpsError with the exit code."""
    with exclusive(session.file, "rollback"):
        facts = gather(session)
        if next(facts.history.updates(), None) is None:
            raise Refused(
                f"Stack {session.stack} was never deployed: there is nothing to roll back. "
                "Start with `runbook deploy IMAGE`."
            )
        plan = _resume(facts, wish) or make_plan(facts, wish)
        clear_way(session, facts, policy)
        if not confirm(plan, _preview(session, plan) if wish.preview else None):
            raise Refused("Not confirmed; nothing was changed.")
        session.say(plan.release.message, "bold")
        run = apply(session, facts.text, plan.text, f"{plan.release.message} by {whoami()}", policy)
        if not run.succeeded:
            raise Stuck(f"The rollback to revision {plan.target} failed:\n" + "\n".join(run.errors))
        if problem := health.verify(facts, plan.release, run.outputs.get("url")):
            raise Stuck(f"Revision {plan.target} was put back, but it does not serve: {problem}")
        return {**report(session, plan.release, run), "target": plan.target, "left": plan.leaving.revision}


def make_plan(facts: Facts, wish: Wish) -> Plan:
    """Where to go and what to write, or a Refused that says which check failed."""
    forced = wish.allow_quarantined
    target = decisions.rollback_target(facts.history, facts.now, wish.to, allow_quarantined=forced is not None)
    leaving = facts.now.release
    if leaving is None or target.release is None:
        raise ValueError("a target was found, so there is a release to leave")
    if block := decisions.rollback_gate(target.release, facts.database):
        raise block.refusal()
    quarantine = facts.now.quarantine
    if wish.quarantine and leaving.digest != target.release.digest:
        item = Quarantined(digest=leaving.digest, revision=leaving.revision, reason=wish.reason)
        quarantine = decisions.with_quarantined(quarantine, item)
    if not decisions.quarantined(target.release.digest, quarantine):
        forced = None
    changes = decisions.rollback_changes(target, decisions.next_revision(facts.now), leaving, quarantine, forced)
    text = facts.checked(changes)
    return Plan(
        leaving=leaving,
        release=Release.model_validate(changes[RELEASE]),
        text=text,
        differences=decisions.differences(facts.text.config, text.config),
        target=target.release.revision,
    )


def _resume(facts: Facts, wish: Wish) -> Plan | None:
    """The rollback that a killed run left unfinished: the stack file already says where it goes."""
    release = facts.now.release
    if facts.now.finished or release is None or release.action != "rollback" or wish.to is not None:
        return None
    if block := decisions.rollback_gate(release, facts.database):
        raise block.refusal()
    left = next((entry.release for entry in facts.history.updates() if entry.revision == release.rollback_of), None)
    return Plan(left or release, release, facts.text, [], release.revision)


def _preview(session: Session, plan: Plan) -> Run:
    """What the engine would do, asked with a scratch copy of the stack file."""
    scratch = plan.text.beside()
    try:
        with Progress(session.console) as progress:
            run = session.engine.preview(scratch, progress)
    finally:
        scratch.unlink()
    if not run.succeeded:
        raise Refused("The preview failed; nothing was changed.\n" + "\n".join(run.errors))
    return run
