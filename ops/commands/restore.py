"""`runbook restore`: beside the live database, or in its place under maintenance (runbook-de-production §2, §6).

In place, the databases on the server show the phase, so that the same command continues a killed run, or `undo` reverts
it. The old database is dropped only after the release passed its checks on the restored one and the safety backup was
verified. Maintenance mode ends last, by an update of its own: nothing is written to a database that may be replaced,
and a run that was killed after the old database was dropped only ends maintenance mode when it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ops.adapters.automation import Run
from ops.adapters.task_jobs import Tasks
from ops.commands import backups
from ops.commands.backups import Backup, tasks_of
from ops.commands.maintenance import maintenance_change as maintenance
from ops.commands.maintenance import show_on_status_page, turn_on
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions.schema_gate import exact_database, rollback_gate
from ops.errors import OpsError, Refused, RolledBack, Stuck
from ops.stack import stack_file
from ops.stack.history import RELEASE
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context
from ops.stack.stack_file import StackText
from settings import Maintenance, Release

Confirm = Callable[[Backup], bool]
_STOP_SECONDS = 60
"""Beyond the grace period of pods, until the last one has ended."""
_OF_ANOTHER = "--of-another"
"""Option of the task: accept a backup of another stack or server."""
UNFINISHED = ("prepared", "swapped")
"""Phases of a restore in place that the same command continues."""


def restore_into(session: Session, backup: str, database: str, *, of_another: bool = False) -> dict[str, Any]:
    """Restore into a new database beside the live one, which does not change. `of_another`: also another stack's."""
    tasks = tasks_of(session)
    chosen = backups.find_backup(tasks.run("backup", "list"), backup)
    return tasks.run(
        "restore", "into", "--backup", chosen["id"], "--database", database, *([_OF_ANOTHER] if of_another else [])
    )


def read_state(session: Session) -> dict[str, Any]:
    """The phase of a restore in place."""
    return tasks_of(session).run("restore", "state")


def restore_in_place(
    session: Session, wanted: str, policy: LockPolicy, confirm: Confirm, *, of_another: bool = False
) -> dict[str, Any]:
    """Replace the live database by a backup; the release stays. `of_another`: also by another stack's or server's."""
    with StackLock(session, f"restore {wanted}", policy) as lock:
        facts = gather_context(session, decides="maintenance")
        release = _require_release(session, facts)
        tasks = tasks_of(session, facts.cluster)
        chosen = backups.find_backup(tasks.run("backup", "list"), wanted)
        now = tasks.run("restore", "state", "--backup", chosen["id"])
        message = f"restore {chosen['id']}"
        if now["phase"] not in UNFINISHED and only_maintenance_is_left(facts, message, now.get("last")):
            prepare_update(session, facts, policy)
            return _report(session, chosen, release, end_maintenance(session, facts, message, policy), {})
        require_own(now, chosen, of_another=of_another)
        _require_same_backup(now, chosen)
        level = chosen["schema_level"]
        if level is not None and (block := rollback_gate(release, exact_database(level))):
            raise Refused(
                f"Backup {chosen['id']} is of schema level {level}, on which revision {release.revision} cannot serve. "
                "To restore the earlier release together with its data: `runbook rollback --restore-database`.\n"
                f"{block.why}"
            )
        prepare_update(session, facts, policy)
        with lock.asking():
            confirmed = confirm(chosen)
        if not confirmed:
            raise Refused("Not confirmed; nothing was changed.")
        restored = release.model_copy(update={"restored_from": chosen["id"]})
        run, kept = swap_databases(session, facts, tasks, chosen, {RELEASE: restored.to_config()}, message, policy)
        return _report(session, chosen, release, run, kept)


def require_own(now: Mapping[str, Any], chosen: Backup, *, of_another: bool = False) -> None:
    """Refuse a backup of another stack or server, unless it is asked for."""
    if (whose := now["of_another"]) and not of_another:
        raise Refused(
            f"Backup {chosen['id']} is of {whose}. Nothing was changed. To replace this stack's data by it, also after "
            f"a server was replaced: `runbook restore start {chosen['id']} --in-place --of-another`."
        )


def _report(session: Session, backup: Backup, release: Release, run: Run, kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "result": "succeeded",
        "backup": backup["id"],
        "revision": release.revision,
        "url": run.outputs.get("url"),
        "seconds": round(session.seconds, 1),
        **kept,
    }


def swap_databases(
    session: Session,
    facts: StackContext,
    tasks: Tasks,
    backup: Backup,
    after: Mapping[str, Any],
    message: str,
    policy: LockPolicy,
) -> tuple[Run, dict[str, Any]]:
    """Maintenance on, safety backup and restored copy, swap, an update with the changes `after` that checks the
    release, the old database dropped, maintenance off. When a check fails, the old database is restored.

    Returns the last update, and what to know: `leftOut` was not restored, `late` was written after the safety backup
    and is in the backup `lateBackup`.
    """
    before = {key: facts.text.config.get(key) for key in after}
    facts.text = close_shop(session, facts, message, policy)
    state = tasks.run("restore", "state")
    if state["phase"] not in UNFINISHED:
        # Whose it is was judged before.
        state = tasks.run("restore", "prepare", "--backup", backup["id"], _OF_ANOTHER)
    for what in (left_out := state.get("left_out") or []):
        session.say(f"Not restored: {what}", "yellow")
    swapped = tasks.run("restore", "swap")
    # Part of the release, so that the checks run again even when the same backup is restored twice.
    release = {**after[RELEASE], "restoredOver": swapped["safety"]}
    # The checks ask pods, which may start again: the file in place is the restored one.
    new = facts.checked({**after, RELEASE: release, **_start_writers(facts, message)})
    run = apply(session, facts.text, new, f"{message} by {whoami()}", policy)
    if not run.succeeded:
        raise _revert(session, facts, tasks, before, backup, run, message, policy)
    facts.text = new
    finished = tasks.run("restore", "finish")
    late = {"late": finished.get("late") or [], "lateBackup": finished.get("late_backup")}
    if late["lateBackup"]:
        session.say(f"Written after the safety backup, and kept in backup {late['lateBackup']}:", "yellow")
        for what in late["late"]:
            session.say(f"  {what}", "yellow")
    return end_maintenance(session, facts, message, policy), {"leftOut": left_out, **late}


def close_shop(session: Session, facts: StackContext, message: str, policy: LockPolicy) -> StackText:
    """Maintenance mode on. Pods that have a SQLite database open are stopped, and have ended: they would go on in the
    file that is replaced."""
    sqlite = facts.settings.data.sqlite
    text = turn_on(session, facts, message, policy, stops_writers=sqlite is not None)
    for service in facts.settings.application.services if sqlite else ():
        if sqlite is None or sqlite.find_mount(service) is None:
            continue
        seconds = service.termination_grace_seconds + _STOP_SECONDS
        session.say(f"Waiting until no pod of {service.name} has the database open")
        if left := facts.cluster.await_no_pods(service.name, seconds):
            raise Stuck(
                f"Pods of {service.name} still run {seconds} s after they were stopped ({', '.join(left)}). Their file "
                "was not exchanged, and maintenance mode is on: run the same command again when they have ended, or "
                "`runbook maintenance off`."
            )
    return text


def _start_writers(facts: StackContext, message: str) -> dict[str, Any]:
    """Maintenance mode as it is without stopped pods; nothing to write where none are stopped."""
    return maintenance(Maintenance(reason=message)) if facts.settings.data.sqlite else {}


def only_maintenance_is_left(facts: StackContext, message: str, last: Mapping[str, Any] | None) -> bool:
    """Whether a restore with this message was killed after its last check, so that only maintenance mode is left.

    `last`: the restore that the database itself says it is of.
    """
    newest, release = next(facts.history.updates(), None), facts.now.release
    if newest is None or release is None:
        return False
    held = facts.settings.maintenance
    if held and held.reason == message and last:
        return (last["backup"], last["safety"]) == (release.restored_from, release.restored_over)
    checked = newest.message.startswith(f"{message} by ")
    opening = newest.message.startswith(f"{message}: open by ")
    return (checked and newest.succeeded) or (opening and not newest.succeeded)


def end_maintenance(session: Session, facts: StackContext, message: str, policy: LockPolicy) -> Run:
    """Open the shop after a restore whose release passed its checks."""
    run = apply(session, facts.text, facts.checked(maintenance(None)), f"{message}: open by {whoami()}", policy)
    if not run.succeeded:
        raise Stuck(
            f"The data is restored and the release passed its checks on it, but maintenance mode could not be ended: "
            f"`runbook maintenance off`.\n{run.why}",
            run.causes,
        )
    show_on_status_page(session, facts.cluster, facts.settings.status_page, None)
    return run


def _revert(
    session: Session,
    facts: StackContext,
    tasks: Tasks,
    before: Mapping[str, Any],
    backup: Backup,
    failed: Run,
    message: str,
    policy: LockPolicy,
) -> OpsError:
    """Restore the old database and the stack file after a failed check; the error to end with."""
    why = failed.why
    session.say(f"The release failed its checks on {backup['id']}; restoring the old database.\n{why}", "red")
    try:
        if facts.settings.data.sqlite:
            facts.text = close_shop(session, facts, message, policy)
        tasks.run("restore", "undo")
        facts.text = stack_file.read(session.file)
        text = facts.checked({**before, **_start_writers(facts, message)})
        run = apply(session, facts.text, text, f"restore undone by {whoami()}", policy)
        if run.succeeded:
            facts.text = text
            run = end_maintenance(session, facts, "restore undone", policy)
    except OpsError as error:
        message = f"The restore failed, and undoing it failed too. Maintenance mode is still on.\n{why}\n{error}"
        return Stuck(message, [*failed.causes, *error.causes])
    if not run.succeeded:
        return Stuck(
            f"The restore failed; the old database is restored, but the release is not:\n{run.why}", run.causes
        )
    return RolledBack(
        f"The release failed its checks on backup {backup['id']}; the old database is restored. The restored copy "
        f"is kept for inspection; `runbook restore finish` drops it.\n{why}",
        failed.causes,
    )


def undo(session: Session, policy: LockPolicy) -> dict[str, Any]:
    """Put the database from before the restore back, and turn maintenance off."""
    with StackLock(session, "restore undo", policy):
        facts = gather_context(session, decides="maintenance")
        _require_release(session, facts)
        prepare_update(session, facts, policy)
        tasks = tasks_of(session, facts.cluster)
        now = tasks.run("restore", "state")
        if now["phase"] == "idle" or (now["phase"] == "swapped" and not now.get("replaced")):
            raise Refused("There is no database from before a restore to put back. Nothing was changed.")
        # Nothing is written to either database while they are exchanged.
        facts.text = close_shop(session, facts, "restore undo", policy)
        undone = tasks.run("restore", "undo")
        run = end_maintenance(session, facts, "restore undo", policy)
        return {"result": "succeeded", **undone, "url": run.outputs.get("url"), "seconds": round(session.seconds, 1)}


def finish(session: Session, policy: LockPolicy) -> dict[str, Any]:
    """Drop the database that is left beside the live one, once its backup is verified."""
    with StackLock(session, "restore finish", policy):
        return tasks_of(session).run("restore", "finish")


def find_pre_release_backup(found: list[dict[str, Any]], target: Release) -> Backup:
    """The newest backup made before a release's migrations on which the target can serve."""
    serves = target.schema_
    for item in found:
        if item["kind"] == "pre-release" and item["schema_level"] is not None and serves.serves(item["schema_level"]):
            return item
    raise Refused(
        f"There is no pre-release backup of a schema level that revision {target.revision} serves on ({serves.min} to "
        f"{serves.max}): `runbook backup list` lists all; `runbook restore start ID --into NEW` restores one beside."
    )


def _require_release(session: Session, facts: StackContext) -> Release:
    if facts.now.release is None:
        raise Refused(f"Stack {session.stack} was never deployed: there is no database to restore.")
    return facts.now.release


def _require_same_backup(now: Mapping[str, Any], chosen: Backup) -> None:
    if now["phase"] in UNFINISHED and now["backup"] != chosen["id"]:
        raise Refused(
            f"A restore of {now['backup']} was interrupted (phase {now['phase']}): run the same command again, or "
            "revert it with `runbook restore undo`."
        )
