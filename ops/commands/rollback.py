"""`runbook rollback`: the gate, the question, one update without migrations, and proof that it serves.

`make_plan` says what would be done, or refuses; `carry_out` does it. The command and the rollback controller use both;
the command asks between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ops.adapters.automation import Run
from ops.adapters.environment import NODES, read_objects
from ops.commands import health
from ops.commands.backups import Backup, find_backup, tasks_of
from ops.commands.deploy import report
from ops.commands.restore import (
    UNFINISHED,
    end_maintenance,
    find_pre_release_backup,
    only_maintenance_is_left,
    require_own,
    swap_databases,
)
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions.kept_images import KeptImage, count_nodes
from ops.decisions.quarantine import find_quarantined, with_quarantined
from ops.decisions.release_state import next_revision
from ops.decisions.rollback_target import differences, rollback_changes, rollback_target
from ops.decisions.schema_gate import Database, exact_database, rollback_gate
from ops.errors import NotMeasured, Refused, Stuck
from ops.progress import Progress
from ops.stack.history import RELEASE, Entry
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, require_application
from ops.stack.stack_file import StackText
from settings import Quarantined, Release


@dataclass(frozen=True)
class Wish:
    """The operator's options."""

    to: int | None = None
    reason: str = "rolled back by hand"
    quarantine: bool = True
    allow_quarantined: str | None = None
    preview: bool = True
    restore_database: bool = False
    automatic: bool = False


@dataclass(frozen=True)
class Plan:
    """What the rollback would write."""

    leaving: Release
    release: Release
    text: StackText
    changes: Mapping[str, Any]
    differences: list[tuple[str, Any, Any]]
    target: int
    restore: Backup | None = None
    """The backup that is restored together with the release."""
    kept: KeptImage | None = None
    """On which nodes its image is; None where that is not known."""


Confirm = Callable[[Plan, Run | None], bool]


def rollback(session: Session, wish: Wish, policy: LockPolicy, confirm: Confirm) -> dict[str, Any]:
    """Go back to an earlier release. Returns what to report, or raises an OpsError with the exit code."""
    require_application(session, "roll back")
    with StackLock(session, "rollback", policy) as lock:
        facts = gather_context(session, decides="release")
        if next(facts.history.updates(), None) is None:
            raise Refused(
                f"Stack {session.stack} was never deployed: there is nothing to roll back. "
                "Start with `runbook deploy IMAGE`."
            )
        if wish.restore_database and (done := _finish_interrupted(session, facts, policy)):
            return done
        plan = make_plan(session, facts, wish)
        prepare_update(session, facts, policy)
        previewed = _preview(session, plan) if wish.preview else None
        plan = replace(plan, kept=_find_kept(facts, plan))
        with lock.asking():
            confirmed = confirm(plan, previewed)
        if not confirmed:
            raise Refused("Not confirmed; nothing was changed.")
        return carry_out(session, facts, plan, wish, policy)


def _finish_interrupted(session: Session, facts: StackContext, policy: LockPolicy) -> dict[str, Any] | None:
    """End the maintenance mode of a rollback with its data that was killed after its last check."""
    release = facts.now.release
    if release is None or release.action != "rollback":
        return None
    now = tasks_of(session, facts.cluster).run("restore", "state")
    if now["phase"] in UNFINISHED or not only_maintenance_is_left(facts, release.message, now.get("last")):
        return None
    prepare_update(session, facts, policy)
    run = end_maintenance(session, facts, release.message, policy)
    earlier = (entry for entry in facts.history.updates() if entry.revision != release.revision)
    target = next(
        (entry.revision for entry in earlier if entry.release and entry.release.digest == release.digest), None
    )
    return {**report(session, release, run), "target": target, "left": release.rollback_of}


def make_plan(session: Session, facts: StackContext, wish: Wish) -> Plan:
    """Where to go and what to write, or a Refused that says which check failed. Changes nothing."""
    if wish.restore_database:
        return _with_its_data(session, facts, wish)
    return _resume(facts, wish) or _plan(facts, wish)


def carry_out(session: Session, facts: StackContext, plan: Plan, wish: Wish, policy: LockPolicy) -> dict[str, Any]:
    """The update that a plan describes, and the checks after it. Returns what to report.

    Refused when the stack is no longer what the plan was made for.
    """
    session.say(plan.release.message, "bold")
    if plan.restore:
        tasks = tasks_of(session, facts.cluster)
        run, kept = swap_databases(session, facts, tasks, plan.restore, plan.changes, plan.release.message, policy)
    else:
        run, kept = apply(session, facts.text, plan.text, _message(plan, wish), policy), {}
    if not run.succeeded:
        raise Stuck(f"The rollback to revision {plan.target} failed:\n{run.why}", run.causes)
    if problem := health.verify(facts, plan.release, run.outputs.get("url")):
        raise Stuck(f"Revision {plan.target} was restored, but it does not serve: {problem}")
    return {**report(session, plan.release, run), "target": plan.target, "left": plan.leaving.revision, **kept}


def _message(plan: Plan, wish: Wish) -> str:
    """With the reason when it is automatic, as no operator knows it."""
    why = f", {wish.reason}" if wish.automatic else ""
    return f"{plan.release.message}{why} by {whoami()}"


def _target(facts: StackContext, wish: Wish) -> Entry:
    forced = wish.allow_quarantined is not None
    return rollback_target(facts.history, facts.now, wish.to, allow_quarantined=forced)


def _with_its_data(session: Session, facts: StackContext, wish: Wish) -> Plan:
    """Back to a release together with the data it had: from the backup made before the migrations that came after it,
    or from the one whose restore was interrupted."""
    target = _target(facts, wish)
    if target.release is None:
        raise ValueError("the target of a rollback has a release")
    tasks = tasks_of(session, facts.cluster)
    now, found = tasks.run("restore", "state"), tasks.run("backup", "list")
    going = now["backup"] if now["phase"] in UNFINISHED else None
    backup = find_backup(found, going) if going else find_pre_release_backup(found, target.release)
    if not going:
        require_own(tasks.run("restore", "state", "--backup", backup["id"]), backup)
    level = backup["schema_level"]
    return replace(_plan(facts, wish, exact_database(level), backup["id"]), restore=backup)


def _plan(facts: StackContext, wish: Wish, database: Database | None = None, restored_from: str | None = None) -> Plan:
    forced = wish.allow_quarantined
    target = _target(facts, wish)
    leaving = facts.now.release
    if leaving is None or target.release is None:
        raise ValueError("a target was found, so there is a release to leave")
    if block := rollback_gate(target.release, database or facts.database):
        raise block.refusal()
    quarantine = facts.now.quarantine
    if wish.quarantine and leaving.digest != target.release.digest:
        item = Quarantined(digest=leaving.digest, revision=leaving.revision, reason=wish.reason)
        quarantine = with_quarantined(quarantine, item)
    if not find_quarantined(target.release.digest, quarantine):
        forced = None
    changes = rollback_changes(target, next_revision(facts.now), leaving, quarantine, forced, restored_from)
    text = facts.checked(changes)
    return Plan(
        leaving=leaving,
        release=Release.model_validate(changes[RELEASE]),
        text=text,
        changes=changes,
        differences=differences(facts.text.config, text.config),
        target=target.release.revision,
    )


def _resume(facts: StackContext, wish: Wish) -> Plan | None:
    """The rollback that a killed run left unfinished: the stack file already has its target."""
    release = facts.now.release
    if facts.now.finished or release is None or release.action != "rollback" or wish.to is not None:
        return None
    if block := rollback_gate(release, facts.database):
        raise block.refusal()
    left = next((entry.release for entry in facts.history.updates() if entry.revision == release.rollback_of), None)
    return Plan(left or release, release, facts.text, {}, [], release.revision)


def _find_kept(facts: StackContext, plan: Plan) -> KeptImage | None:
    """An identity that may not list nodes rolls back, too."""
    try:
        return count_nodes(read_objects(facts.cluster, NODES), plan.target, plan.release.image)
    except (NotMeasured, Refused):
        return None


def _preview(session: Session, plan: Plan) -> Run:
    """What the engine would do, from a scratch copy of the stack file."""
    scratch = plan.text.write_scratch()
    try:
        with Progress(session.console) as progress:
            run = session.engine.preview(scratch, progress)
    finally:
        scratch.unlink()
    if not run.succeeded:
        raise Refused(f"The preview failed; nothing was changed.\n{run.why}")
    return run
