"""Backups (Runbook de Production §2) and rotations (HerbisVeritas "Rotation Clés Sécurité"): what settings.alerts says,
with its route and its cases. The metrics are those of the project's own exporter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from monitoring.alerts.promtool_cases import Case, fires, never, rising, steady
from monitoring.alerts.rule import Alert, Channel, Domain
from settings.backup import Backup
from settings.backup_alerts import AlertRule, backup_rules, rotation_rules
from settings.rotation import SecretRotation

EVERY = 60
_MINUTES = 300
_EXPORTER = "the exporter away: `BackupExporterAway`"


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the rule of this name does not say itself."""

    about: str
    advice: str
    cases: tuple[Case, ...]
    channel: Channel = "alerts"
    missing: str = _EXPORTER
    on_absence: bool = False
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


_Knowing = _Known | Callable[[AlertRule], _Known]


def backups(backup: Backup) -> Domain:
    rules = {rule.name: rule for rule in backup_rules(backup)}
    ratio = backup.alerts.size_ratio
    store = {"runbook_backup_store_up": steady(1), "runbook_backup_store_read_timestamp_seconds": rising(_MINUTES)}
    known: dict[str, _Knowing] = {
        "BackupMissed": _Known(
            about="backup",
            advice="`runbook backup list`; the CronJob's last Job says why; `runbook backup now`",
            channel="critical",
            cases=_older(
                "runbook_backup_last_success_timestamp_seconds", backup.interval * backup.alerts.missed_intervals
            ),
        ),
        "BackupNeverRan": _Known(
            about="backup-schedule",
            advice="is the CronJob suspended, or refused by the quota? `runbook backup now`",
            channel="critical",
            cases=_state("runbook_backup_last_scheduled_timestamp_seconds", 0, 1, rules["BackupNeverRan"].lasting),
        ),
        "RestoreNotProven": _Known(
            about="restore",
            advice="`runbook backup verify` tests the newest backup now",
            channel="critical",
            cases=_older(
                "runbook_backup_last_proven_timestamp_seconds", timedelta(hours=backup.restore_test.max_age_hours)
            ),
        ),
        "RestoreTestNeverRan": _Known(
            about="restore-schedule",
            advice="is the CronJob suspended, or refused by the quota? `runbook backup verify`",
            channel="critical",
            cases=_state("runbook_restore_test_last_timestamp_seconds", 0, 1, rules["RestoreTestNeverRan"].lasting),
        ),
        "RestoreTestFailed": _Known(
            about="restore-test",
            advice="`runbook backup list` says at which step; the backup before it may still be good",
            channel="critical",
            cases=_state("runbook_restore_test_passed", 0, 1),
        ),
        "BackupShrank": _Known(
            about="backup-size",
            advice="was so much deleted? If nobody meant to, no backup may be cleaned up until it is clear (`keep`)",
            cases=_pair("runbook_backup_size_bytes", "runbook_backup_previous_size_bytes", 1000 * ratio),
        ),
        "BackupRetentionFails": _Known(
            about="backup-retention",
            advice="`runbook backup cleanup --dry-run`",
            cases=_state(
                'runbook_backup_retention_problems{problem="overdue"}',
                1,
                0,
                rules["BackupRetentionFails"].lasting,
                {"problem": "overdue"},
            ),
        ),
        "BackupEvidenceChanged": _Known(
            about="evidence",
            advice="who may write to the store? No migration runs until a new test has passed",
            channel="security",
            cases=_state("runbook_restore_test_evidence_intact", 0, 1),
        ),
        "BackupStoreUnreadable": _Known(
            about="backup-store",
            advice="credentials (were they rotated?), network, the provider's status",
            channel="critical",
            cases=_state("runbook_backup_store_up", 0, 1, rules["BackupStoreUnreadable"].lasting),
        ),
        "BackupExporterAway": _Known(
            about="backup-exporter",
            advice="the Deployment `backup-exporter`",
            channel="critical",
            missing="that is what it tells: it fires",
            on_absence=True,
            cases=(
                _case("nobody there", {}, fires(rules["BackupExporterAway"].lasting, since=0, step=_MINUTES)),
                _case("it reads", store, never(rules["BackupExporterAway"].lasting, since=0, step=_MINUTES)),
                _case(
                    "it answers and reads no more",
                    store | {"runbook_backup_store_read_timestamp_seconds": steady(0)},
                    fires(rules["BackupExporterAway"].lasting, since=900, step=_MINUTES),
                ),
            ),
        ),
    }
    chapter = "Runbook de Production §2: sauvegardes et tests de restauration"
    return _domain("backups", "Backups and restore tests", chapter, rules.values(), known)


def rotations(rotating: Mapping[str, SecretRotation]) -> Domain:
    name = next(iter(sorted(rotating)))
    age = rotating[name].max_age
    one = {"secret": name}
    labels = f'{{secret="{name}"}}'
    rotated, overlap = (f"runbook_secret_{what}_timestamp_seconds{labels}" for what in ("rotated", "overlap_until"))
    emergency = f"runbook_secret_emergency_timestamp_seconds{labels}"
    rules = rotation_rules(rotating)
    lasting = {rule.name: rule.lasting for rule in rules}
    previous = f'shop_secret_uses_total{{secret="{name}",which="previous"}}'
    known: dict[str, _Knowing] = {
        "SecretRotationOverdue": _Known(
            about="secret-age",
            advice="`runbook rotate --due`",
            cases=_older(rotated, age, one, {f"runbook_secret_max_age_seconds{labels}": steady(age.total_seconds())}),
        ),
        "SecretNeverRotated": _never_rotated,
        "SecretVerificationFailed": _Known(
            about="secret-rotation",
            advice="`runbook rotate status`; the previous value serves",
            channel="security",
            cases=_state(f"runbook_secret_verification_failed{labels}", 1, 0, labels=one),
        ),
        "SecretRotationStuck": _Known(
            about="secret-rotation",
            advice="`runbook rotate` goes on where it stopped",
            cases=(
                *_state(
                    f'runbook_secret_phase{{secret="{name}",phase="dual"}}',
                    1,
                    0,
                    lasting["SecretRotationStuck"],
                    one | {"phase": "dual"},
                ),
                _case(
                    "a rotation that is done stands where it should",
                    {f'runbook_secret_phase{{secret="{name}",phase="retired"}}': steady(1)},
                    never(lasting["SecretRotationStuck"], since=0, step=_MINUTES),
                ),
            ),
        ),
        "SecretNotRetired": _Known(
            about="secret-overlap",
            advice="`runbook rotate --due` retires it",
            cases=_overlap_over(overlap, one),
        ),
        "SecretPreviousUsedAfterOverlap": _Known(
            about="secret-previous",
            advice="who was told the old value, and not the new one? `runbook logs`",
            channel="security",
            missing="no use was counted; no metrics at all: `MetricsMissing`",
            cases=(
                _case(
                    "used after its overlap",
                    {overlap: steady(600), previous: rising(1)},
                    ((600, False), (900, False), (1200, True)),
                    one,
                ),
                _case("not used", {overlap: steady(600), previous: steady(7)}, ((1800, False),)),
                _case("used within it", {overlap: steady(10_000), previous: rising(1)}, ((1800, False),)),
            ),
        ),
        "SecretEmergencyRotation": _Known(
            about="secret-emergency",
            advice="whose doing was it? Then `runbook rotate status`",
            channel="security",
            cases=(
                _case("just now", {emergency: steady(600)}, ((900, True),), one),
                _case("never", {emergency: steady(0)}, ((900, False),)),
                _case("long ago", {emergency: steady(1)}, ((2 * 86_400, False),), step=3600),
            ),
        ),
        "RotationStatusUnreadable": _Known(
            about="rotation-status",
            advice="the ConfigMap `rotation-status` and the Deployment `backup-exporter`",
            missing="that is what it tells: it fires",
            on_absence=True,
            cases=(
                *_state("runbook_rotation_status_readable", 0, 1, lasting["RotationStatusUnreadable"]),
                _case("nobody there", {}, fires(lasting["RotationStatusUnreadable"], since=0, step=_MINUTES)),
            ),
        ),
    }
    chapter = 'HerbisVeritas "Rotation Clés Sécurité"; Runbook de Production §4'
    return _domain("rotations", "Rotation of secrets", chapter, rules, known)


def _never_rotated(rule: AlertRule) -> _Known:
    """There is one for each age: of the secrets that may have it."""
    name = re.findall(r'secret=~"([^|"]+)', rule.expr)[0]
    metric = f'runbook_secret_rotated_timestamp_seconds{{secret="{name}"}}'
    return _Known(
        about="secret-age",
        advice="`runbook rotate --due`",
        cases=_state(metric, 0, 1, rule.lasting, {"secret": name}),
        labels={"age": f"{rule.lasting.days}d"},
    )


def _domain(name: str, title: str, chapter: str, rules: Iterable[AlertRule], known: Mapping[str, _Knowing]) -> Domain:
    alerts: list[Alert] = []
    for rule in rules:
        knowing = known[rule.name]
        more = knowing if isinstance(knowing, _Known) else knowing(rule)
        alerts.append(
            Alert(
                **vars(rule),
                about=more.about,
                channel=more.channel,
                chapter=chapter,
                missing=more.missing,
                advice=more.advice,
                on_absence=more.on_absence,
                labels=more.labels,
                cases=more.cases,
            )
        )
    return Domain(name=name, title=title, every=EVERY, alerts=tuple(alerts))


# -- made-up metrics ---------------------------------------------------------------------------------------


def _case(
    title: str,
    series: Mapping[str, str],
    checks: tuple[tuple[int, bool], ...],
    labels: Mapping[str, str] | None = None,
    step: int = _MINUTES,
) -> Case:
    return Case(title=title, series=series, checks=checks, step=step, labels=labels or {})


def _older(
    metric: str, limit: timedelta, labels: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
) -> tuple[Case, ...]:
    """A moment that is further and further away."""
    step = _step(limit)
    last = int(limit.total_seconds() + 1) // step * step
    return (
        _case("just older, and just not", {metric: steady(1), **(more or {})},
              ((last, False), (last + step, True)), labels, step),
        _case("never: another alert's", {metric: steady(0), **(more or {})}, ((last + step, False),), step=step),
    )  # fmt: skip


def _state(
    metric: str,
    bad: float,
    good: float,
    lasting: timedelta = timedelta(),
    labels: Mapping[str, str] | None = None,
) -> tuple[Case, ...]:
    step = _step(lasting)
    return (
        _case("so for that long", {metric: steady(bad)}, fires(lasting, since=0, step=step), labels, step),
        _case("all is well", {metric: steady(good)}, never(lasting, since=0, step=step), step=step),
    )


def _pair(metric: str, other: str, limit: float) -> tuple[Case, ...]:
    return (
        _case("just smaller", {metric: steady(limit - 1), other: steady(1000)}, ((0, True),)),
        _case("just not", {metric: steady(limit), other: steady(1000)}, ((0, False),)),
    )


def _overlap_over(metric: str, labels: Mapping[str, str]) -> tuple[Case, ...]:
    """Its limit is in the rule alone: a day and an hour are on either side of it."""
    return (
        _case("long over", {metric: steady(1)}, ((3 * 86_400, True),), labels, 3600),
        _case("just over", {metric: steady(1)}, ((3600, False),)),
        _case("no overlap", {metric: steady(0)}, ((3 * 86_400, False),), step=3600),
    )


def _step(span: timedelta) -> int:
    """Small beside the span, and few steps to its end."""
    return max(_MINUTES, int(span.total_seconds()) // 100 // 60 * 60)
