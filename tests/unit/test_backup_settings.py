"""Backups in a stack file: refusals, secrets, quota, and the alerts made of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from monitoring.alerts.schedules import backups
from settings.cron import longest_gap, longest_gap_in
from tests.support.program import stack_config
from tests.unit.test_settings import edited, judged, prod, refusal

RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@pytest.mark.parametrize(
    ("schedule", "gap"),
    [
        ("0 * * * *", timedelta(hours=1)),
        ("*/15 * * * *", timedelta(minutes=15)),
        ("0 */6 * * *", timedelta(hours=6)),
        ("30 2 * * *", timedelta(days=1)),
        ("@weekly", timedelta(weeks=1)),
        ("0 3 * * mon-fri", timedelta(days=3)),
        ("0 3 * * 1-5", timedelta(days=3)),
        ("5/20 8-18 * * *", timedelta(hours=13, minutes=20)),
        ("0 0 1 * *", timedelta(days=31)),
        ("0 0 1 jan *", timedelta(days=366)),
        ("0 0 29 2 *", timedelta(days=4 * 365 + 1)),
        ("0 0 1 * mon", timedelta(days=7)),  # either kind of day will do
        ("0 0 */10 * mon", timedelta(days=7)),  # a step restricts too
    ],
)
def test_how_far_apart_a_schedule_runs(schedule: str, gap: timedelta) -> None:
    assert longest_gap(schedule) == gap


@pytest.mark.parametrize(
    ("schedule", "zone", "gap"),
    [
        ("30 2 * * *", "Etc/UTC", timedelta(hours=24)),
        ("30 2 * * *", "Europe/Paris", timedelta(hours=47)),  # the last Sunday of March has no 02:30
        ("30 4 * * *", "Europe/Paris", timedelta(hours=25)),  # the last Sunday of October has 25 hours
        ("30 2 * * 0", "Europe/Paris", timedelta(days=14, hours=-1)),
        ("30 0 * * *", "America/Santiago", timedelta(hours=47)),  # the clock skips midnight there
        ("0 12 1 * *", "America/New_York", timedelta(days=31)),
    ],
)
def test_how_far_apart_a_cronjob_runs_where_clocks_change(schedule: str, zone: str, gap: timedelta) -> None:
    assert longest_gap_in(schedule, zone) == gap


def test_a_restore_test_that_the_clock_leaves_out_once_a_year_is_refused() -> None:
    """M5: the gate would be closed for most of a day in March."""
    config = edited(prod(), "backup.timeZone", "Europe/Paris")
    config = edited(config, "backup.restoreTest.schedule", "30 2 * * *")
    said = str(refusal(edited(config, "backup.restoreTest.maxAgeHours", 26)))
    assert "maxAgeHours" in said
    assert "once a year, when the clock of Europe/Paris skips its time" in said
    assert judged(edited(config, "backup.restoreTest.maxAgeHours", 48)).backup


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("0 2 * *", "4 fields instead of five"),
        ("60 * * * *", "minute: '60' is outside 0-59"),
        ("0 24 * * *", "hour: '24' is outside 0-23"),
        ("0 0 * * 7", "day of the week: '7' is outside 0-6"),
        ("*/0 * * * *", "not a number above 0"),
        ("0 5-2 * * *", "runs backwards"),
        ("0 0 31 feb *", "never runs"),
        ("0 0 * foo *", "month: 'foo'"),
    ],
)
def test_an_invalid_schedule_is_refused_with_the_reason(schedule: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("*", r"\*")):
        longest_gap(schedule)


CASES: list[tuple[str, str, Any, str, str]] = [
    ("cron", "backup.schedule", "0 2 * *", "runbook:backup.schedule", "schedule: 0 2 * * *"),
    ("cron of the test", "backup.restoreTest.schedule", "daily", "restoreTest.schedule", "1 fields instead of five"),
    ("time zone", "backup.timeZone", "Europe/Pariss", "runbook:backup.timeZone", "no such time zone"),
    ("no digest", "image", "tasks:latest", "runbook:image", "has no digest"),
    ("retention 0", "backup.retention.days", 0, "backup.retention.days", "greater than or equal to 1"),
    ("retention below 0", "backup.retention.days", -3, "backup.retention.days", "greater than or equal to 1"),
    ("keeps nothing", "backup.retention.least", 0, "backup.retention.least", "greater than or equal to 1"),
    ("deleted before the next", "backup.schedule", "0 0 1 1 *", "backup.retention.days", "come every 366 days"),
    ("test too rare", "backup.restoreTest.schedule", "@weekly", "restoreTest.maxAgeHours", "no release could migrate"),
    ("locked longer than kept", "backup.destination.objectLockDays", 90, "retention.days", "locked for 90 days"),
    ("recipient", "backup.encryption", {"recipients": ["age1x"]}, "encryption.recipients[0]", RECIPIENT),
    ("no recipient", "backup.encryption", {"recipients": []}, "encryption.recipients", "at least 1"),
    ("bucket name", "backup.destination.bucket", "My_Bucket", "destination.bucket", "shop-backups"),
    ("prefix", "backup.destination.prefix", "/shop/", "destination.prefix", "prefix: shop"),
    ("endpoint", "backup.destination.endpoint", "s3.local:8333", "destination.endpoint", "https://"),
    ("nowhere to", "backup.destination.egress", [], "destination.egress", "at least 1"),
    ("kind of store", "backup.destination.mode", "ftp", "runbook:backup.destination", "'s3', 'volume'"),
    ("identity by key", "backup.destination.serviceAccountAnnotations", {"a/b": "c"}, "credentials", "podIdentity"),
    ("kept by name", "backup.keep", ["last-week"], "backup.keep[0]", "20260816T020000Z-pre-release-4f1a"),
    ("no server to restore into", "backup.restoreTest.postgresImage", ..., "postgresImage", "postgres is external"),
    ("no cache to start", "backup.restoreTest.redisImage", ..., "redisImage", "redis is external"),
    ("no room for scratch", "backup.scratch", "500Gi", "runbook:guards.quota.storage", "the volumes need 2500Gi"),
    ("misspelt", "backup.retention", {"day": 3}, "retention.day", "did you mean days?"),
]


@pytest.mark.parametrize(
    ("path", "value", "where", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_bad_value_is_refused_with_its_key(path: str, value: Any, where: str, says: str) -> None:
    message = str(refusal(edited(prod(), path, value)))
    assert where in message
    assert says in message


def test_production_has_backups_and_others_may_go_without() -> None:
    config = prod()
    del config["runbook:backup"]
    message = str(refusal(config))
    assert "runbook:backup" in message
    assert "mode: s3" in message
    assert judged({**config, "runbook:environment": "staging"}).backup is None


def test_an_example_from_a_message_is_good() -> None:
    config = prod()
    del config["runbook:backup"]
    (problem,) = refusal(config).problems
    images = {"restoreTest": config_of("prod")["restoreTest"]}
    assert judged({**config, "runbook:backup": problem.write | images}).backup


def config_of(name: str) -> dict[str, Any]:
    return stack_config(f"Pulumi.{name}.yaml")["runbook:backup"]


def test_the_quota_includes_backups() -> None:
    """Without them the sandbox's stack needs less."""
    config = stack_config("Pulumi.sandbox.yaml")
    small = edited(config, "guards.quota.limitsMemory", "5Gi")
    assert "backups, a restore and its test" in str(refusal(small))
    del small["runbook:backup"]
    assert judged(small)


def test_the_quota_that_a_refusal_names_suffices() -> None:
    """What a refusal says to write is accepted."""
    config = edited(stack_config("Pulumi.sandbox.yaml"), "guards.quota.limitsMemory", "5Gi")
    (problem,) = refusal(config).problems
    assert judged(edited(config, "guards.quota.limitsMemory", problem.write))


def test_secrets_of_backups_are_asked_for_and_no_others() -> None:
    config = prod()
    base = {"BACKUP_S3_ACCESS_KEY_ID", "BACKUP_S3_SECRET_ACCESS_KEY"}
    assert base <= set(judged(config).secret_names)
    application = set(judged(config).secret_names) - base
    message = str(refusal(config, application))
    assert "pulumi config set --secret secrets:BACKUP_S3_SECRET_ACCESS_KEY" in message
    assert "needed by runbook:backup" in message
    known = edited(config, "backup.destination.credentials", "podIdentity")
    assert set(judged(known, application).secret_names) == application
    sealed = edited(known, "backup.encryption", {"recipients": [RECIPIENT]})
    assert set(judged(sealed).secret_names) == application | {"BACKUP_IDENTITIES"}
    volume = edited(config, "backup.destination", {"mode": "volume", "size": "10Gi"})
    assert set(judged(volume, application).secret_names) == application
    assert "nothing uses this secret" in str(refusal(volume, application | base))


@pytest.mark.parametrize(
    ("zone", "seconds"),
    [
        ("Etc/UTC", 24 * 3600),
        # 02:30 does not exist on the last Sunday of March: 47 hours, and the time of a backup.
        ("Europe/Paris", 48 * 3600),
    ],
)
def test_no_backup_is_missed_because_the_clock_skips_its_time(zone: str, seconds: int) -> None:
    config = edited(prod(), "backup.schedule", "30 2 * * *")
    config = edited(config, "backup.alerts", {"missedIntervals": 1})
    backup = judged(edited(config, "backup.timeZone", zone)).backup
    assert backup
    rules = {rule.name: rule for rule in backups(backup).alerts}
    assert f"> {seconds} " in rules["BackupMissed"].expr
    assert rules["BackupNeverRan"].lasting == seconds


def test_a_restore_test_that_the_clock_skips_has_not_never_run() -> None:
    config = edited(prod(), "backup.restoreTest.schedule", "30 2 * * *")
    backup = judged(edited(config, "backup.timeZone", "Europe/Paris")).backup
    assert backup
    (never,) = [rule for rule in backups(backup).alerts if rule.name == "RestoreTestNeverRan"]
    assert never.lasting == 47 * 3600 + backup.restore_test.timeout_seconds


def test_backups_are_kept_until_the_next_one_when_the_clock_skips_its_time() -> None:
    config = edited(prod(), "backup.retention.days", 1)
    assert judged(edited(config, "backup.timeZone", "Etc/UTC"))
    skipped = edited(edited(config, "backup.schedule", "30 2 * * *"), "backup.timeZone", "Europe/Paris")
    assert "47 h" in str(refusal(skipped))


def test_the_alerts_say_what_the_settings_say() -> None:
    config = edited(prod(), "backup.schedule", "0 */6 * * *")
    config = edited(config, "backup.alerts", {"missedIntervals": 3, "sizeRatio": 0.25})
    backup = judged(edited(config, "backup.restoreTest.maxAgeHours", 30)).backup
    assert backup
    rules = {rule.name: rule for rule in backups(backup).alerts}
    assert f"> {18 * 3600} " in rules["BackupMissed"].expr
    assert f"> {30 * 3600} " in rules["RestoreNotProven"].expr
    assert "< 0.25 * " in rules["BackupShrank"].expr
    assert rules["BackupNeverRan"].lasting == 18 * 3600
    assert rules["BackupNeverRan"].to_prometheus()["for"] == f"{18 * 3600}s"
    assert {rule.severity for rule in rules.values()} == {"critical", "warning"}
