"""Backups (Runbook de Production §2) and rotations (HerbisVeritas "Rotation Clés Sécurité"). The metrics are of the
project's own exporter: the age of what is in the store counts, not how a Job ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from monitoring.alerts.promtool_cases import Boundary, Case, fires, never, rising, steady
from monitoring.alerts.rule import Alert, Domain
from settings.backup import Backup
from settings.cron import longest_gap_in
from settings.rotation import SecretRotation

EVERY = 60
_STEP = 300
_SCRAPES = 300
"""Seconds in which a scrape may fail once or twice."""
_EXPORTER = "without the exporter: `BackupExporterAway`"
_HOUR, _DAY = 3_600, 86_400
_UNDER_WAY = _HOUR
"""A rotation takes minutes from its start to its overlap."""
_LEFT = _DAY
"""Schedules that end overlaps run at least daily."""
_NEWS = _DAY
"""How long an emergency rotation is reported."""


def backups(backup: Backup) -> Domain:
    return Domain(name="backups", title="Backups and restore tests", every=EVERY, alerts=tuple(_backups(backup)))


def _backups(backup: Backup) -> Iterator[Alert]:
    test, ratio = backup.restore_test, backup.alerts.size_ratio
    missed = backup.missed_seconds
    unproven = timedelta(hours=test.max_age_hours).total_seconds()
    size, previous = "runbook_backup_size_bytes", "runbook_backup_previous_size_bytes"
    up, read = "runbook_backup_store_up", "runbook_backup_store_read_timestamp_seconds"
    common: dict[str, Any] = {
        "chapter": "Runbook de Production §2: sauvegardes et tests de restauration",
        "missing": _EXPORTER,
        "channel": "critical",
        "severity": "critical",
    }
    minor: dict[str, Any] = common | {"channel": "alerts", "severity": "warning"}
    security: dict[str, Any] = common | {"channel": "security"}
    absent: dict[str, Any] = common | {"missing": "it fires"}
    yield _older(
        "runbook_backup_last_scheduled_timestamp_seconds",
        missed,
        name="BackupMissed",
        summary=f"no scheduled backup has succeeded for {missed / _HOUR:g} h",
        about="backup",
        advice="`runbook backup list`; the log of the CronJob's last Job shows why; `runbook backup now`",
        **common,
    )
    yield _zero(
        "runbook_backup_last_scheduled_timestamp_seconds",
        name="BackupNeverRan",
        lasting=missed,
        summary=f"the schedule of backups ({backup.schedule} {backup.time_zone}) has never made one",
        about="backup-schedule",
        advice="is the CronJob suspended, or refused by a quota? `runbook backup now`",
        **common,
    )
    yield _older(
        "runbook_backup_last_proven_timestamp_seconds",
        unproven,
        name="RestoreNotProven",
        summary=f"no restore test has passed for {unproven / _HOUR:g} h: migrations are refused until one passes",
        about="restore",
        advice="`runbook backup verify` tests the newest backup now",
        **common,
    )
    yield _zero(
        "runbook_restore_test_last_timestamp_seconds",
        name="RestoreTestNeverRan",
        lasting=int(longest_gap_in(test.schedule, backup.time_zone).total_seconds()) + test.timeout_seconds,
        summary=f"the schedule of restore tests ({test.schedule} {backup.time_zone}) has never run one",
        about="restore-schedule",
        advice="is the CronJob suspended, or refused by a quota? `runbook backup verify`",
        **common,
    )
    yield _zero(
        "runbook_restore_test_passed",
        name="RestoreTestFailed",
        summary="the last restore test failed",
        about="restore-test",
        advice="`runbook backup list` shows at which step; the backup before it may still be good",
        **common,
    )
    yield Alert(
        name="BackupShrank",
        measure=f"{size}{{}} < {ratio:g} * {previous}{{}}",
        summary=f"the newest scheduled backup has less than {ratio:.0%} of the usual size",
        about="backup-size",
        advice="usual is the last proven one that had not shrunk. Were rows deleted on purpose? Then write the id "
        "(`runbook backup list`) as `backup.alerts.acceptedBackup`; if not, `keep` older ones until the cause is known",
        boundary=Boundary(
            beyond={size: steady(1000 * ratio - 1), previous: steady(1000)},
            within={size: steady(1000 * ratio), previous: steady(1000)},
            step=_STEP,
        ),
        **minor,
    )
    yield _state(
        "runbook_backup_retention_problems{} > 0",
        {'runbook_backup_retention_problems{problem="overdue"}': (1, 0)},
        {"problem": "overdue"},
        name="BackupRetentionFails",
        # A cleanup follows every backup.
        lasting=int(backup.interval.total_seconds()),
        summary="cleanup does not apply the retention: {{ $labels.problem }}",
        about="backup-retention",
        advice="`runbook backup cleanup --dry-run`",
        **minor,
    )
    yield _zero(
        "runbook_restore_test_evidence_intact",
        name="BackupEvidenceChanged",
        summary="the record of restore tests was changed or partly removed after it was written",
        about="evidence",
        advice="find out who can write to the store; no migration runs until a new test has passed",
        **security,
    )
    yield _zero(
        up,
        name="BackupStoreUnreadable",
        lasting=_SCRAPES,
        summary="the backup store cannot be read",
        about="backup-store",
        advice="check the credentials (were they rotated?), the network and the provider's status",
        **common,
    )
    store = {up: steady(1), read: rising(_STEP)}
    yield Alert(
        name="BackupExporterAway",
        measure=f"absent({up}{{}}) or time() - {read}{{}} > 600",
        lasting=_SCRAPES,
        summary="backups are not monitored: the exporter is down or has stopped reading the store",
        about="backup-exporter",
        advice="check the Deployment `backup-exporter` and its log",
        on_absence=True,
        boundary=Boundary(beyond={}, within=store, step=_STEP),
        more=(
            _case("it answers, but has stopped reading", store | {read: steady(0)},
                  fires(_SCRAPES, since=900, step=_STEP)),
        ),
        **absent,
    )  # fmt: skip


def rotations(rotating: Mapping[str, SecretRotation]) -> Domain:
    return Domain(name="rotations", title="Rotation of secrets", every=EVERY, alerts=tuple(_rotations(rotating)))


def _rotations(rotating: Mapping[str, SecretRotation]) -> Iterator[Alert]:
    # One that is never rotated has no maximum age.
    limits = {name: most for name, each in sorted(rotating.items()) if (most := each.max_age)}
    if not limits:
        return
    name = next(iter(limits))
    one, secret = {"secret": name}, f'{{secret="{name}"}}'
    rotated, overlap, emergency = (
        f"runbook_secret_{what}_timestamp_seconds" for what in ("rotated", "overlap_until", "emergency")
    )
    status, age = "runbook_rotation_status_readable", limits[name].total_seconds()
    previous = f'shop_secret_uses_total{{secret="{name}",which="previous"}}'
    over = f"({overlap}{{}} > 0 and time() - {overlap}{{}}"
    common: dict[str, Any] = {
        "chapter": 'HerbisVeritas "Rotation Clés Sécurité"; Runbook de Production §4',
        "missing": _EXPORTER,
        "channel": "alerts",
        "severity": "warning",
    }
    security: dict[str, Any] = common | {"channel": "security", "severity": "critical"}
    uses: dict[str, Any] = common | {
        "channel": "security",
        "missing": "without counted uses it does not fire; without metrics: `MetricsMissing`",
    }
    absent: dict[str, Any] = common | {"missing": "it fires"}
    yield Alert(
        name="SecretRotationOverdue",
        measure=f"time() - {rotated}{{}} > runbook_secret_max_age_seconds{{}}",
        after=f"and {rotated}{{}} > 0",
        summary="{{ $labels.secret }} is older than its policy allows",
        about="secret-age",
        advice="`runbook rotate due`",
        more=_older_cases(rotated + secret, age, one, {f"runbook_secret_max_age_seconds{secret}": steady(age)}),
        **common,
    )
    # A secret that was never rotated has no age: the alert waits for the age that its policy allows.
    by_age: dict[timedelta, list[str]] = {}
    for each, most in limits.items():
        by_age.setdefault(most, []).append(each)
    for limit, names in sorted(by_age.items()):
        yield _state(
            f'{rotated}{{secret=~"{"|".join(names)}"}} == 0',
            {f'{rotated}{{secret="{names[0]}"}}': (0, 1)},
            {"secret": names[0]},
            name="SecretNeverRotated",
            lasting=int(limit.total_seconds()),
            summary="{{ $labels.secret }} has never been rotated",
            about="secret-age",
            advice="`runbook rotate due`",
            labels={"age": f"{limit.days}d"},
            **common,
        )
    yield _state(
        "runbook_secret_verification_failed{} == 1",
        {f"runbook_secret_verification_failed{secret}": (1, 0)},
        one,
        name="SecretVerificationFailed",
        summary="the last rotation of {{ $labels.secret }} failed, and its previous value was restored",
        about="secret-rotation",
        advice="`runbook rotate status` shows why",
        **security,
    )
    phase = f'runbook_secret_phase{{secret="{name}",phase="%s"}}'
    yield _state(
        'runbook_secret_phase{phase=~"pending|tested|dual|rolled-out"} == 1',
        {phase % "dual": (1, 0)},
        one | {"phase": "dual"},
        name="SecretRotationStuck",
        lasting=_UNDER_WAY,
        summary="the rotation of {{ $labels.secret }} is stuck in phase {{ $labels.phase }}",
        about="secret-rotation",
        advice="`runbook rotate due` continues it",
        more=(
            _case(
                "a finished rotation is not stuck",
                {phase % "retired": steady(1)},
                never(_UNDER_WAY, since=0, step=_STEP),
            ),
        ),
        **common,
    )
    yield Alert(
        name="SecretNotRetired",
        measure=f"{over} > {_LEFT})",
        summary="the overlap of {{ $labels.secret }} is over, but its previous value is still valid",
        about="secret-overlap",
        advice="`runbook rotate due` retires it",
        # The limit is in the rule alone: a day and an hour are on either side of it.
        more=(
            _case("long over", {overlap + secret: steady(1)}, ((3 * _DAY, True),), one, _HOUR),
            _case("just over", {overlap + secret: steady(1)}, ((_HOUR, False),)),
            _case("no overlap", {overlap + secret: steady(0)}, ((3 * _DAY, False),), step=_HOUR),
        ),
        **common,
    )
    yield Alert(
        name="SecretPreviousUsedAfterOverlap",
        measure='sum by (secret) (increase(shop_secret_uses_total{which="previous"}[5m])) > 0',
        after=f"and on (secret) {over} > 300)",
        summary="the previous value of {{ $labels.secret }} is still used, although its overlap is over",
        about="secret-previous",
        advice="`runbook rotate status`; find the client that still has the old value (`kubectl logs` of the backend)",
        more=(
            _case(
                "used after its overlap",
                {overlap + secret: steady(600), previous: rising(1)},
                ((600, False), (900, False), (1200, True)),
                one,
            ),
            _case("not used", {overlap + secret: steady(600), previous: steady(7)}, ((1800, False),)),
            _case("used within it", {overlap + secret: steady(10_000), previous: rising(1)}, ((1800, False),)),
        ),
        **uses,
    )
    yield Alert(
        name="SecretEmergencyRotation",
        measure=f"time() - {emergency}{{}} < {_NEWS}",
        after=f"and {emergency}{{}} > 0",
        summary="{{ $labels.secret }} was replaced in an emergency, and all users were logged out",
        about="secret-emergency",
        advice="`runbook history` shows who did it; then `runbook rotate status`",
        more=(
            _case("just now", {emergency + secret: steady(600)}, ((900, True),), one),
            _case("never", {emergency + secret: steady(0)}, ((900, False),)),
            _case("long ago", {emergency + secret: steady(1)}, ((2 * _DAY, False),), step=_HOUR),
        ),
        **security,
    )
    yield _state(
        f"{status}{{}} == 0 or absent({status}{{}})",
        {status: (0, 1)},
        name="RotationStatusUnreadable",
        lasting=_SCRAPES,
        summary="the age of secrets is not monitored: the exporter is down or cannot read the rotation status",
        about="rotation-status",
        advice="check the ConfigMap `rotation-status` and the Deployment `backup-exporter`",
        on_absence=True,
        more=(_case("no exporter", {}, fires(_SCRAPES, since=0, step=_STEP)),),
        **absent,
    )


def _older(metric: str, limit: float, **fields: Any) -> Alert:
    """An alert on an age. A timestamp of 0 means never, which is the subject of another alert."""
    return Alert(
        measure=f"time() - {metric}{{}}",
        operator=">",
        limit=limit,
        after=f"and {metric}{{}} > 0",
        shown=f"time() - {metric}{{}} and {metric}{{}} > 0",
        more=_older_cases(metric, limit),
        **fields,
    )


def _zero(metric: str, **fields: Any) -> Alert:
    return _state(f"{metric}{{}} == 0", {metric: (0, 1)}, **fields)


def _state(
    measure: str,
    series: Mapping[str, tuple[float, float]],
    series_labels: Mapping[str, str] | None = None,
    lasting: int = 0,
    **fields: Any,
) -> Alert:
    """An alert on a state: of each series, the value at which it fires and the one at which it does not."""
    return Alert(
        measure=measure,
        lasting=lasting,
        boundary=Boundary(
            beyond={name: steady(bad) for name, (bad, _) in series.items()},
            within={name: steady(good) for name, (_, good) in series.items()},
            step=_step(lasting),
            labels=series_labels or {},
        ),
        **fields,
    )


def _older_cases(
    series: str, limit: float, labels: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
) -> tuple[Case, ...]:
    step = _step(limit)
    last = int(limit + 1) // step * step
    old = {series: steady(1), **(more or {})}
    return (
        _case("just older, and just not", old, ((last, False), (last + step, True)), labels, step),
        _case("never: another alert's", old | {series: steady(0)}, ((last + step, False),), step=step),
    )


def _case(
    title: str,
    series: Mapping[str, str],
    checks: tuple[tuple[int, bool], ...],
    labels: Mapping[str, str] | None = None,
    step: int = _STEP,
) -> Case:
    return Case(title=title, series=series, checks=checks, step=step, labels=labels or {})


def _step(span: float) -> int:
    """Small compared with the span, and few steps to its end."""
    return max(_STEP, int(span) // 100 // 60 * 60)
