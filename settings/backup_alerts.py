"""Alert rules as data, made from the thresholds in the settings; metric names are those of the exporter's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from settings.backup import Backup
from settings.cron import longest_gap
from settings.rotation import SecretRotation

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
    severity: Literal["critical", "warning", "info", "none"]
    """`info` asks nobody to do anything; `none` is for machines."""
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


_UNDER_WAY = timedelta(hours=1)
"""A rotation takes minutes from its start to its overlap."""
_LEFT = timedelta(days=1)
"""Schedules that end overlaps run at least daily."""
_NEWS = timedelta(days=1)
"""An emergency is told for so long."""


def rotation_rules(rotations: Mapping[str, SecretRotation]) -> tuple[AlertRule, ...]:
    """Rotation (HerbisVeritas "Rotation Clés Sécurité"): ages by policy, and who still has an old value."""
    ages: dict[timedelta, list[str]] = {}
    for name, rotating in sorted(rotations.items()):
        ages.setdefault(rotating.max_age, []).append(name)
    overlap = "runbook_secret_overlap_until_timestamp_seconds"
    over = f"({overlap} > 0 and time() - {overlap}"
    return (
        AlertRule(
            "SecretRotationOverdue",
            "time() - runbook_secret_rotated_timestamp_seconds > runbook_secret_max_age_seconds"
            " and runbook_secret_rotated_timestamp_seconds > 0",
            timedelta(),
            "warning",
            "{{ $labels.secret }} is older than its policy allows: runbook rotate --due",
        ),
        # What never happened has no age: it has to be given the time to happen first.
        *(
            AlertRule(
                "SecretNeverRotated",
                f'runbook_secret_rotated_timestamp_seconds{{secret=~"{"|".join(names)}"}} == 0',
                age,
                "warning",
                "{{ $labels.secret }} has never been rotated: runbook rotate --due",
            )
            for age, names in sorted(ages.items())
        ),
        AlertRule(
            "SecretVerificationFailed",
            "runbook_secret_verification_failed == 1",
            timedelta(),
            "critical",
            "the last rotation of {{ $labels.secret }} went back to the previous value: runbook rotate status says why",
        ),
        AlertRule(
            "SecretRotationStuck",
            'runbook_secret_phase{phase=~"pending|tested|dual|rolled-out"} == 1',
            _UNDER_WAY,
            "warning",
            "the rotation of {{ $labels.secret }} stands still at {{ $labels.phase }}: runbook rotate goes on with it",
        ),
        AlertRule(
            "SecretNotRetired",
            f"{over} > {_seconds(_LEFT)})",
            timedelta(),
            "warning",
            "the overlap of {{ $labels.secret }} is over, and its previous value still valid: runbook rotate --due",
        ),
        AlertRule(
            "SecretPreviousUsedAfterOverlap",
            'sum by (secret) (increase(shop_secret_uses_total{which="previous"}[5m])) > 0'
            f" and on (secret) {over} > 300)",
            timedelta(),
            "warning",
            "somebody still uses the previous value of {{ $labels.secret }}, whose overlap is over",
        ),
        AlertRule(
            "SecretEmergencyRotation",
            f"time() - runbook_secret_emergency_timestamp_seconds < {_seconds(_NEWS)}"
            " and runbook_secret_emergency_timestamp_seconds > 0",
            timedelta(),
            "critical",
            "{{ $labels.secret }} was replaced in an emergency, and everybody logged out",
        ),
        AlertRule(
            "RotationStatusUnreadable",
            "runbook_rotation_status_readable == 0 or absent(runbook_rotation_status_readable)",
            _SCRAPES,
            "warning",
            "nobody watches the age of secrets: the exporter is away or is told nothing",
        ),
    )


def _older(metric: str, limit: timedelta) -> str:
    """What never happened is 0, and another rule's: it has to be given the time to happen first."""
    return f"time() - {metric} > {_seconds(limit)} and {metric} > 0"


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def _spoken(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} h"
