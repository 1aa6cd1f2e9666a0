"""Backups and restore tests (Runbook de Production §2)."""

from __future__ import annotations

from monitoring.dashboards.board import YES_OR_NO, Board, Measured, Panel, Query, Row, Word, graph, number
from settings.backup import Backup


def backups(backup: Backup) -> Board:
    return Board(
        slug="backups",
        title="Backups and restores",
        about="Read from the store: age of the newest backup, and of the newest one that a test restored.",
        since="now-7d",
        domains=("backups",),
        rows=(Row("Backups", _backups(backup)), Row("Restore tests", _tests())),
    )


def _backups(backup: Backup) -> tuple[Panel, ...]:
    ratio = backup.alerts.size_ratio
    size, previous = "runbook_backup_size_bytes{}", "runbook_backup_previous_size_bytes{}"
    return (
        number(
            "Age of the newest scheduled backup",
            "s",
            Measured("BackupMissed"),
            empty="no backup",
        ),
        number("Backups", "short", "runbook_backups{}"),
        number("Store readable", "short", "runbook_backup_store_up{}", words=YES_OR_NO),
        number(
            "Cleanup",
            "short",
            "sum(runbook_backup_retention_problems{})",
            words={0: Word(text="done", color="green")},
            about="Number of expired backups that the cleanup did not delete.",
        ),
        number("Database size at the newest backup", "bytes", "runbook_backup_database_bytes{}", width=8),
        graph(
            "Age of the newest scheduled backup",
            "s",
            Measured("BackupMissed", "age"),
            width=12,
        ),
        graph(
            "Size",
            "bytes",
            Query(size, "newest scheduled"),
            Query(f"{ratio:g} * {previous}", f"{ratio:.0%} of the usual size"),
            width=12,
            about="Below the second curve, `BackupShrank` fires.",
        ),
    )


def _tests() -> tuple[Panel, ...]:
    passed = {0: Word(text="failed", color="red"), 1: Word(text="passed", color="green")}
    intact = {0: Word(text="changed", color="red"), 1: Word(text="intact", color="green")}
    return (
        number("Age of the newest passed test", "s", Measured("RestoreNotProven"), empty="never passed"),
        number("Last test", "short", "runbook_restore_test_passed{}", words=passed),
        number("Evidence", "short", "runbook_restore_test_evidence_intact{}", words=intact),
        number("RTO", "s", "runbook_restore_test_rto_seconds{}", about="From the download to the passed smoke test."),
        number("RPO", "s", "runbook_restore_test_rpo_seconds{}", about="Age of the newest backup when the test began."),
        number("Tests on record", "short", "runbook_restore_test_records{}", legend="{{result}}"),
        graph(
            "Age of the newest passed test",
            "s",
            Measured("RestoreNotProven", "age"),
            width=12,
            about="Above the line, deploys with migrations are refused.",
        ),
        graph(
            "Recovery time and data loss",
            "s",
            Query("runbook_restore_test_rto_seconds{}", "RTO"),
            Query("runbook_restore_test_rpo_seconds{}", "RPO"),
            width=12,
        ),
    )
