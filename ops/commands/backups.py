"""`runbook backup`: runs the backup tasks in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.adapters.cluster import Cluster
from ops.adapters.task_jobs import TaskFailed, Tasks
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, load_settings
from settings import Release

Backup = Mapping[str, Any]
"""A row of `backup list`."""


_REMEDIES = {
    "not_proven": "Prove a backup with `runbook backup verify`, or migrate without one: --without-proof REASON.",
    "backup_running": "Run the same command again when that backup has ended; runbook:backup.waitSeconds is how long a "
    "release waits for it.",
}
"""What to do about the errors of the gate."""


def tasks_of(session: Session, cluster: Cluster | None = None) -> Tasks:
    """Tasks of the stack; refused when its settings have no backups."""
    settings = load_settings(session.file)
    if settings.backup is None:
        raise Refused(
            f"{session.file.name} has no runbook:backup, so stack {session.stack} has no backups: write it "
            "(docs/backups.md), then deploy."
        )
    config = stack_file.read(session.file).config
    return Tasks(cluster or session.cluster(settings, config), session.say)


def list_backups(session: Session) -> list[dict[str, Any]]:
    """Every backup, newest first, and what proves it."""
    return tasks_of(session).run("backup", "list")


def create_backup(session: Session) -> dict[str, Any]:
    """A backup made now; its manifest."""
    return tasks_of(session).run("backup", "create", "--kind", "manual")


def test_restore(session: Session, backup: str | None) -> dict[str, Any]:
    """The evidence of a restore test made now, of this backup or the newest."""
    return tasks_of(session).run_restore_test(backup)


def clean_up(session: Session, *, dry_run: bool) -> dict[str, Any]:
    """What retention deletes, or would."""
    return tasks_of(session).run("backup", "cleanup", *(("--dry-run",) if dry_run else ()))


def verify_evidence(session: Session) -> dict[str, Any]:
    """{intact: true, records, passed, failed, head}, or {intact: false, why}."""
    try:
        return {"intact": True, **tasks_of(session).run("evidence", "verify")}
    except TaskFailed as failed:
        if failed.code != "evidence_broken":
            raise
        return {"intact": False, "why": str(failed)}


def begin_evidence_anew(session: Session, reason: str) -> dict[str, Any]:
    """The record from which restore tests count from now on."""
    return tasks_of(session).run("evidence", "begin-anew", "--reason", f"{reason} (by {whoami()})")


def find_backup(backups: list[dict[str, Any]], wanted: str) -> Backup:
    """The one backup whose id begins so."""
    found = [item for item in backups if item["id"].startswith(wanted)]
    if len(found) != 1:
        have = "\n".join(f"  {item['id']}" for item in backups[:10]) or "  (none)"
        what = "There is no backup" if not found else "There is more than one backup"
        raise Refused(f"{what} {wanted}. The newest are:\n{have}")
    return found[0]


def require_backup(session: Session, facts: StackContext, release: Release) -> None:
    """Before anything is changed: refuse migrations without a proven backup, as the update's own gate would, and wait
    for a backup that runs.

    Without a ready pod the gate in the update decides.
    """
    plan, level = facts.settings.backup, release.schema_.level
    if plan is None or facts.database.source != "measured" or facts.database.low >= level:
        return
    hours = str(plan.restore_test.max_age_hours)
    words = ["--within-hours", hours, "--if-behind", str(level), "--when-idle"]
    words += ["--without-proof", release.without_proof] if release.without_proof else []
    try:
        tasks_of(session, facts.cluster).run("backup", "gate", *words)
    except TaskFailed as failed:
        if not (remedy := _REMEDIES.get(failed.code or "")):
            raise
        raise Refused(f"{failed}\nNothing was changed. {remedy}") from None
