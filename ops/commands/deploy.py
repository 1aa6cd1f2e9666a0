"""`runbook deploy`: checks, one update, and the last good release again when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ops.adapters import registry
from ops.adapters.automation import Run
from ops.adapters.registry import Image
from ops.commands import backups, health
from ops.commands.check import require_environment
from ops.commands.code_checks import require_report
from ops.commands.lighthouse_reports import keep_lighthouse_reports
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions.blame import find_excuse
from ops.decisions.code_report import LABEL
from ops.decisions.quarantine import find_quarantined, quarantine_change, with_quarantined
from ops.decisions.release_state import find_resumable, last_good, next_revision
from ops.decisions.rollback_target import rollback_changes
from ops.decisions.schema_gate import Database, deploy_gate, exact_database, rollback_gate
from ops.errors import Interrupted, OpsError, Refused, RolledBack, Stuck
from ops.stack.history import RELEASE, Entry
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, require_application
from ops.stack.stack_file import StackText
from settings import Quarantined, Release

_NOT_TO_BLAME = (
    "\nThe release is not to blame for this and not quarantined: remove the cause and run the same command again."
)


@dataclass(frozen=True)
class Wish:
    """The operator's options."""

    image: str
    git: str | None = None
    version: str | None = None
    schema: Mapping[str, int | None] = field(default_factory=dict)
    allow_quarantined: str | None = None
    allow_downtime: bool = False
    without_proof: str | None = None
    without_checks: str | None = None


def deploy(session: Session, wish: Wish, policy: LockPolicy) -> dict[str, Any]:
    """Release an image. Returns what to report; raises an OpsError with the exit code otherwise."""
    require_application(session, "deploy")
    with StackLock(session, f"deploy {wish.image}", policy):
        with ThreadPoolExecutor(max_workers=1) as pool:
            image = pool.submit(registry.resolve, wish.image)
            facts = gather_context(session, decides="release")
        release = plan(facts, wish, image.result())
        release = require_report(session, facts, release, image.result().labels.get(LABEL))
        require_environment(session, facts, release.image, wish.without_checks)
        backups.require_backup(session, facts, release)
        new = facts.checked({RELEASE: release.to_config(), **quarantine_change(facts.now.quarantine)})
        prepare_update(session, facts, policy)
        session.say(release.message, "bold")
        run = apply(session, facts.text, new, f"{release.message} by {whoami()}", policy)
        keep_lighthouse_reports(session, facts, release)
        if not run.succeeded:
            raise _roll_back(session, facts, new, release, run, policy)
        return report(session, release, run)


def plan(facts: StackContext, wish: Wish, image: Image) -> Release:
    """The release to write, or a Refused that says which check it failed."""
    git = wish.git or image.git
    if not git:
        raise Refused(
            f"{image.reference} has no label for the commit it was built from: build it with "
            f"{registry.GIT}, or give --git COMMIT."
        )
    schema = image.schema(wish.schema)
    digest = image.reference.rsplit("@", 1)[1]
    bad = find_quarantined(digest, facts.now.quarantine)
    if bad and not wish.allow_quarantined:
        raise Refused(_explain_quarantine(bad, facts))
    # Without a ready pod, no running release can break during the migration.
    running = last_good(facts.history) if facts.database.source == "measured" else None
    resumed = find_resumable(facts.now, image.reference, schema)
    block = deploy_gate(
        schema, running.release if running else None, facts.database, allow_downtime=wish.allow_downtime
    )
    if block and not resumed:  # a resumed release passed the gate before, and may have migrated since
        raise block.refusal()
    return Release(
        revision=resumed.revision if resumed else next_revision(facts.now),
        image=image.reference,
        git=git,
        version=wish.version or image.version,
        schema_=schema,
        allow_quarantined=wish.allow_quarantined if bad else None,
        without_proof=wish.without_proof,
        without_checks=wish.without_checks,
    )


def _explain_quarantine(bad: Quarantined, facts: StackContext) -> str:
    release = facts.now.release
    if release and release.action == "rollback" and not facts.now.finished:
        return (
            f"The rollback to revision {release.revision} was interrupted: finish it with "
            f"`runbook rollback`. The image is quarantined: {bad.reason}"
        )
    return (
        f"This image is quarantined since revision {bad.revision}: {bad.reason}\nDeploy another image, or "
        "add --allow-quarantined REASON."
    )


def _roll_back(
    session: Session, facts: StackContext, text: StackText, failed: Release, run: Run, policy: LockPolicy
) -> OpsError:
    """Restore the last good release after a failed update; the error to end with."""
    why = run.why
    good = last_good(facts.history)
    if good is None or good.release is None:
        return Stuck(
            f"Revision {failed.revision} failed, and it is the first: there is nothing to roll back to."
            f"\n{why}\nFix the cause and run the same command again.",
            run.causes,
        )
    database = _database_after(facts, failed)
    if block := rollback_gate(good.release, database):
        return Stuck(
            f"Revision {failed.revision} failed, and revision {good.release.revision} cannot be restored.\n"
            f"{why}\n{block.why}\n{block.then}",
            run.causes,
        )
    session.say(f"Revision {failed.revision} failed; restoring revision {good.release.revision}:\n{why}", "red")
    try:
        excuse = find_excuse(run.failed, run.causes)
        back = _restore_release(session, facts, text, failed, good, None if excuse else run.what_failed, policy)
    except Interrupted as error:
        return Interrupted(
            f"Revision {failed.revision} failed, and its rollback was stopped: run `runbook rollback`. {error}"
        )
    except OpsError as error:
        message = f"Revision {failed.revision} failed, and its rollback failed too:\n{error}"
        return Stuck(message, [*run.causes, *error.causes])
    return RolledBack(
        f"Revision {failed.revision} failed and was rolled back: revision {back.revision} runs the image of "
        f"revision {good.release.revision} again ({session.seconds:.1f} s in all).\n{run.gist}"
        + (_NOT_TO_BLAME if excuse else ""),
        run.causes,
    )


def _database_after(facts: StackContext, failed: Release) -> Database:
    """The schema level after a failed update, whose migrations may have run."""
    backend = facts.settings.application.main_service
    try:
        level = facts.cluster.schema_level(backend, facts.settings.commands)
    except Refused:
        level = None
    if level is not None:
        return exact_database(level)
    return Database(facts.database.low, max(facts.database.high, failed.schema_.level), "recorded")


def _restore_release(
    session: Session,
    facts: StackContext,
    text: StackText,
    failed: Release,
    good: Entry,
    why: str | None,
    policy: LockPolicy,
) -> Release:
    """`why`: what the failed release is quarantined for; None where it is not to blame."""
    quarantine = facts.now.quarantine
    if why and good.release and good.release.digest != failed.digest:
        item = Quarantined(digest=failed.digest, revision=failed.revision, reason=why[:300])
        quarantine = with_quarantined(quarantine, item)
    forced = good.release.allow_quarantined if good.release else None
    changes = rollback_changes(good, failed.revision + 1, failed, quarantine, forced)
    release = Release.model_validate(changes[RELEASE])
    session.say(release.message, "bold")
    run = apply(session, text, text.edited(changes), f"{release.message} by {whoami()}", policy)
    if not run.succeeded:
        raise Stuck(run.why, run.causes)
    problem = health.verify(facts, release, run.outputs.get("url"))
    if problem:
        raise Stuck(problem)
    return release


def report(session: Session, release: Release, run: Run) -> dict[str, Any]:
    return {
        "result": "succeeded",
        "revision": release.revision,
        "action": release.action,
        "image": release.image,
        "git": release.git,
        "schema": release.schema_.to_config(),
        "url": run.outputs.get("url"),
        "changes": {op: count for op, count in run.changes.items() if op != "same"},
        "seconds": round(session.seconds, 1),
    }
