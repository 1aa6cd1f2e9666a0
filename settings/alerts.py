"""Alert rules as data, made from the thresholds in the settings; metric names are those of tasks/exporter.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from settings.backup import Backup
from settings.cron import longest_gap

_SCRAPES = timedelta(minutes=5)
"""Long enough for a scrape to fail once or twice."""


@dataclass(frozen=True)
class AlertRule:
    """When somebody is told what."""

    name: str
    expr: str
    """PromQL; any result is an alert."""
    lasting: timedelta
    """How long it has to be so."""
    severity: Literal["critical", "warning"]
    summary: str

    def to_prometheus(self) -> dict[str, Any]:
        """The rule as it stands in a rule file."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{_seconds(self.lasting)}s",
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary},
        }


def backup_rules(backup: Backup) -> tuple[AlertRule, ...]:
    """Backups (runbook-de-production §2): the age of what is in the store counts, not how a Job ended."""
    missed = backup.interval * backup.alerts.missed_intervals
    unproven = timedelta(hours=backup.restore_test.max_age_hours)
    testing = longest_gap(backup.restore_test.schedule) + timedelta(seconds=backup.restore_test.timeout_seconds)
    ratio = backup.alerts.size_ratio
    return (
        AlertRule(
            "BackupMissed",
            _older("runbook_backup_last_success_timestamp_seconds", missed),
            timedelta(),
            "critical",
            f"no backup has succeeded for {_spoken(missed)}",
        ),
        AlertRule(
            "BackupNeverRan",
            "runbook_backup_last_scheduled_timestamp_seconds == 0",
            missed,
            "critical",
            f"the schedule of backups ({backup.schedule} {backup.time_zone}) has never made one",
        ),
        AlertRule(
            "RestoreNotProven",
            _older("runbook_backup_last_proven_timestamp_seconds", unproven),
            timedelta(),
            "critical",
            f"no restore has been proven for {_spoken(unproven)}: migrations are refused until one is",
        ),
        AlertRule(
            "RestoreTestNeverRan",
            "runbook_restore_test_last_timestamp_seconds == 0",
            testing,
            "critical",
            f"the schedule of restore tests ({backup.restore_test.schedule} {backup.time_zone}) has never made one",
        ),
        AlertRule(
            "RestoreTestFailed",
            "runbook_restore_test_passed == 0",
            timedelta(),
            "critical",
            "the last restore test failed: its evidence says why (runbook backup list)",
        ),
        AlertRule(
            "BackupShrank",
            f"runbook_backup_size_bytes < {ratio:g} * runbook_backup_previous_size_bytes",
            timedelta(),
            "warning",
            f"the newest backup has less than {ratio:.0%} of the size of the one before",
        ),
        AlertRule(
            "BackupRetentionFails",
            "runbook_backup_retention_problems > 0",
            # A cleanup follows every backup.
            backup.interval,
            "warning",
            "cleanup does not do what the retention says: {{ $labels.problem }}",
        ),
        AlertRule(
            "BackupEvidenceChanged",
            "runbook_restore_test_evidence_intact == 0",
            timedelta(),
            "critical",
            "the record of restore tests is not what was written: somebody changed or removed a part of it",
        ),
        AlertRule(
            "BackupStoreUnreadable",
            "runbook_backup_store_up == 0",
            _SCRAPES,
            "critical",
            "the backup store cannot be read",
        ),
        AlertRule(
            "BackupExporterAway",
            "absent(runbook_backup_store_up) or time() - runbook_backup_store_read_timestamp_seconds > 600",
            _SCRAPES,
            "critical",
            "nobody watches the backups: the exporter is away or has stopped reading the store",
        ),
    )


def _older(metric: str, limit: timedelta) -> str:
    """What never happened is 0, and another rule's: it has to be given the time to happen first."""
    return f"time() - {metric} > {_seconds(limit)} and {metric} > 0"


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def _spoken(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} h"
