"""Rotation in a stack file: what rotates and when, which value is used and accepted, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring.alerts.schedules import rotations as rotation_alerts
from settings.cron import last_run, next_run, shortest_gap
from settings.rotation import RotationState, SecretRotation
from settings.rotation_rules import list_warnings
from tests.support.program import secrets_for, stack_config
from tests.unit.test_settings import edited, judged, prod, refusal

MOMENT = "2026-11-22T10:00:00Z"


def state(phase: str = "pending", period: int = 1, previous: int = 0, **more: Any) -> dict[str, Any]:
    failure = {"failure": "verification failed"} if phase == "failed" else {}
    return {
        "period": period, "previous": previous, "phase": phase, "startedAt": MOMENT, "phaseAt": MOMENT,
        **failure, **more,
    }  # fmt: skip


def rotating(name: str, *, given: set[str] | None = None, **changes: Any) -> SecretRotation:
    """A secret of production, with changes to `runbook:` keys."""
    config = prod(**changes)
    return judged(config, set(secrets_for(config)) | (given or set())).rotations()[name]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# -- schedules -----------------------------------------------------------------------------------------

BIWEEKLY = "0 0 1,15 * *"


@pytest.mark.parametrize(
    ("schedule", "moment", "zone", "last", "following"),
    [
        (BIWEEKLY, "2026-11-22T10:00+00:00", "Etc/UTC", "2026-11-15T00:00+00:00", "2026-12-01T00:00+00:00"),
        # A run is one from its very second on.
        (BIWEEKLY, "2026-12-01T00:00+00:00", "Etc/UTC", "2026-12-01T00:00+00:00", "2026-12-15T00:00+00:00"),
        (BIWEEKLY, "2026-11-30T23:59:59+00:00", "Etc/UTC", "2026-11-15T00:00+00:00", "2026-12-01T00:00+00:00"),
        # Midnight in Paris is not midnight in UTC.
        (BIWEEKLY, "2026-11-30T23:00+00:00", "Europe/Paris", "2026-12-01T00:00+01:00", "2026-12-15T00:00+01:00"),
        ("0 0 1 */3 *", "2026-12-31T23:59+00:00", "Etc/UTC", "2026-10-01T00:00+00:00", "2027-01-01T00:00+00:00"),
        ("0 0 29 2 *", "2026-11-22T10:00+00:00", "Etc/UTC", "2024-02-29T00:00+00:00", "2028-02-29T00:00+00:00"),
        # The clock skips 02:30: the run comes as much later as it jumps, and only that day.
        ("30 2 * * *", "2026-03-29T00:00+00:00", "Europe/Paris", "2026-03-28T02:30+01:00", "2026-03-29T03:30+02:00"),
        ("30 2 * * *", "2026-03-29T01:30+00:00", "Europe/Paris", "2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"),
        # The clock shows 02:30 twice: the run is the first.
        ("30 2 * * *", "2026-10-25T00:29:59+00:00", "Europe/Paris", "2026-10-24T02:30+02:00", "2026-10-25T02:30+02:00"),
        ("30 2 * * *", "2026-10-25T01:30+00:00", "Europe/Paris", "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"),
        # Midnight itself is skipped in Beirut.
        ("0 0 * * *", "2026-03-28T21:59:59+00:00", "Asia/Beirut", "2026-03-28T00:00+02:00", "2026-03-29T01:00+03:00"),
    ],
)  # fmt: skip
def test_the_runs_around_a_moment(schedule: str, moment: str, zone: str, last: str, following: str) -> None:
    assert last_run(schedule, at(moment), zone).isoformat(timespec="minutes") == last
    assert next_run(schedule, at(moment), zone).isoformat(timespec="minutes") == following


def test_runs_follow_one_another() -> None:
    """What is next after a run has it as its last, over two years of clocks put forward and back."""
    run, end = at("2026-01-01T00:00:00+00:00"), at("2028-01-01T00:00:00+00:00")
    while run < end:
        following = next_run("15 2 */3 * *", run, "Europe/Paris")
        assert following > run
        assert last_run("15 2 */3 * *", following, "Europe/Paris") == following
        assert last_run("15 2 */3 * *", following - timedelta(seconds=1), "Europe/Paris") <= run.astimezone(UTC)
        run = following


def test_how_close_a_schedule_runs() -> None:
    assert shortest_gap(BIWEEKLY) == timedelta(days=14)
    assert shortest_gap("0 0 1 * *") == timedelta(days=28)


# -- what rotates --------------------------------------------------------------------------------------


def test_the_schedules_are_the_runbooks_own() -> None:
    found = judged(prod()).rotations()
    schedules = {name: each.policy.schedule for name, each in found.items()}
    monthly = dict.fromkeys(
        (
            "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET", "SMTP_URL", "SENTRY_DSN",
            "SUPABASE_SERVICE_ROLE_KEY", "BACKUP_S3",
        ),
        "0 0 1 * *",
    )  # fmt: skip
    assert schedules == monthly | {
        "JWT_SECRET": BIWEEKLY, "SESSION_SECRET": BIWEEKLY,
        "DATABASE_URL": "0 0 1 */3 *", "REDIS_URL": "0 0 1 */3 *",
    }  # fmt: skip
    webhook = found["STRIPE_WEBHOOK_SECRET"].policy
    assert webhook.verify
    assert webhook.verify.run == ("npm run ops:webhooks:verify --workspace backend",)
    assert webhook.overlap_seconds == 86_400, "Stripe keeps an old webhook secret for at most a day"
    assert found["JWT_SECRET"].policy.verify is None


def test_what_kind_a_secret_is() -> None:
    kinds = {name: each.kind for name, each in judged(stack_config("Pulumi.sandbox.yaml")).rotations().items()}
    assert kinds == {
        "JWT_SECRET": "key", "SESSION_SECRET": "key", "INTERNAL_API_KEY": "key",
        "DATABASE_URL": "database", "REDIS_URL": "redis",
        "STRIPE_SECRET_KEY": "given", "STRIPE_WEBHOOK_SECRET": "given", "STRIPE_IDENTITY_WEBHOOK_SECRET": "given",
        "BACKUP_S3": "s3",
    }  # fmt: skip
    assert rotating("REDIS_URL").kind == "given", "only its owner can create users on a managed cache"


def test_an_external_database_rotates_by_an_administrator() -> None:
    alone = edited(prod(), "data.postgres.admin", ...)
    assert judged(alone).rotations()["DATABASE_URL"].kind == "given"
    served = edited(prod(), "data.postgres.admin", True)
    assert judged(served).rotations()["DATABASE_URL"].kind == "database"
    assert "secrets:DATABASE_ADMIN_URL" in str(refusal(served, set(secrets_for(alone))))


def test_a_policy_is_the_default_but_for_what_is_written() -> None:
    changes = {"schedule": "0 3 * * 0", "verify": None}
    policy = rotating("STRIPE_WEBHOOK_SECRET", rotation={"secrets": {"STRIPE_WEBHOOK_SECRET": changes}}).policy
    assert (policy.schedule, policy.verify, policy.overlap_seconds) == ("0 3 * * 0", None, 86_400)


ENCRYPTS = (
    "ENCRYPTION_KEY", "N8N_ENCRYPTION_KEY", "FERNET_KEY", "FIELD_ENC_KEY", "FIELD_KEY", "DATA_KEY", "AES_KEY",
    "RAILS_MASTER_KEY", "APP_KEY", "SECRET_KEY_BASE", "ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY", "PASSWORD_PEPPER",
)  # fmt: skip
SIGNS = ("JWT_SECRET", "SESSION_SECRET", "INTERNAL_API_KEY", "SECRET_KEY", "CSRF_KEY", "ENCODER_KEY", "METADATA_TOKEN")


def generated(name: str, rotation: dict[str, Any] | None = None, **how: Any) -> SecretRotation:
    keys = {"JWT_SECRET": {}, "SESSION_SECRET": {}, name: how}
    return rotating(name, credentials={"generated": keys}, rotation={"secrets": {name: rotation or {}}})


@pytest.mark.parametrize("name", [*ENCRYPTS, *SIGNS])
def test_a_key_that_seems_to_encrypt_data_is_not_rotated_until_a_setting_says_so(name: str) -> None:
    policy = generated(name).policy
    assert (policy.never, policy.guessed) == (name in ENCRYPTS, name in ENCRYPTS)
    for written in ({"rotate": "by-schedule"}, {"schedule": "0 3 1 * *"}):
        assert generated(name, written).policy.never is False


def test_a_secret_that_is_never_rotated() -> None:
    for each in (generated("BOX_KEY", rotate="never", length=64), generated("BOX_KEY", {"rotate": "never"})):
        assert (each.policy.never, each.policy.guessed, each.max_age) == (True, False, None)
    assert generated("BOX_KEY", {"rotate": "by-schedule"}, rotate="never").policy.never is False
    assert "rotate" in str(refusal(prod(credentials={"generated": {"BOX_KEY": {"rotate": "monthly"}}})))


def test_no_alert_waits_for_the_rotation_of_what_is_never_rotated() -> None:
    config = prod(credentials={"generated": {"AES_KEY": {}, "JWT_SECRET": {}}})
    alerts = rotation_alerts(judged(config, set(secrets_for(config))).rotations()).alerts
    waiting = [alert.measure for alert in alerts if alert.name == "SecretNeverRotated"]
    assert any("JWT_SECRET" in measure for measure in waiting)
    assert not any("AES_KEY" in measure for measure in waiting)
    overdue = next(alert for alert in alerts if alert.name == "SecretRotationOverdue")
    assert "runbook_secret_max_age_seconds" in overdue.measure, "a metric that such a secret does not have"


def warnings(**changes: Any) -> list[str]:
    config = prod(**changes)
    return [*list_warnings(judged(config, set(secrets_for(config))).rotations())]


def test_a_preview_says_what_only_the_authors_of_the_application_know() -> None:
    keys = {"generated": {"JWT_SECRET": {}, "FERNET_KEY": {}, "DATA_KEY": {"rotate": "never"}}}
    said = warnings(credentials=keys, rotation={})
    assert [text.split()[0].rstrip(":") for text in said] == ["FERNET_KEY", "JWT_SECRET"]
    assert "runbook:rotation.secrets.FERNET_KEY.rotate: never" in said[0]
    assert "refused 24 h after a rotation, or at once by an application that reads only JWT_SECRET" in said[1]
    assert "JWT_SECRET.tokenSeconds" in said[1]
    assert "JWT_SECRET.verifyPrevious" in said[1]
    known = {"tokenSeconds": 43_200, "verifyPrevious": {"run": "npm run ops:tokens:verify"}}
    assert warnings(credentials={"generated": {"JWT_SECRET": {}}}, rotation={"secrets": {"JWT_SECRET": known}}) == []


@pytest.mark.parametrize(
    ("lives", "overlap", "where", "says"),
    [
        (86_400, 86_400, None, ""),
        (86_401, 86_400, "overlapSeconds", "overlapSeconds: 86401"),
        (14 * 86_400 - 1, 86_400, "overlapSeconds", "overlapSeconds: 1209599"),
        # The next rotation would need the slot before the last token is old enough.
        (30 * 86_400, 86_400, "schedule", "rotate less often, with overlapSeconds: 2592000"),
    ],
)
def test_an_overlap_is_as_long_as_the_longest_token(lives: int, overlap: int, where: str | None, says: str) -> None:
    policy = {"tokenSeconds": lives, "overlapSeconds": overlap}
    config = prod(rotation={"secrets": {"JWT_SECRET": policy}})
    if where is None:
        assert judged(config, set(secrets_for(config)))
        return
    message = str(refusal(config))
    assert f"runbook:rotation.secrets.JWT_SECRET.{where}" in message
    assert says in message
    assert "customers would be logged out" in message


def test_a_rare_enough_schedule_allows_long_tokens() -> None:
    policy = {"tokenSeconds": 30 * 86_400, "overlapSeconds": 30 * 86_400, "schedule": "0 0 1 */3 *"}
    assert rotating("JWT_SECRET", rotation={"secrets": {"JWT_SECRET": policy}}).policy.token_seconds == 30 * 86_400


# -- which value is used -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "emergency", "in_use", "accepted", "periods"),
    [
        ("pending", False, 0, None, {0, 1}),
        ("tested", False, 0, None, {0, 1}),
        ("dual", False, 0, 1, {0, 1}),
        ("failed", False, 0, 1, {0, 1}),
        ("rolled-out", False, 1, 0, {0, 1}),
        ("verified", False, 1, 0, {0, 1}),
        ("retired", False, 1, None, {1}),
        ("rolled-out", True, 1, None, {0, 1}),
        ("verified", True, 1, None, {0, 1}),
    ],
)
def test_which_value_is_used_and_which_accepted(
    phase: str, emergency: bool, in_use: int, accepted: int | None, periods: set[int]
) -> None:
    each = rotating("JWT_SECRET", rotated={"JWT_SECRET": state(phase, emergency=emergency)})
    assert (each.in_use, each.accepted, set(each.periods)) == (in_use, accepted, periods)


def test_a_secret_that_was_never_rotated() -> None:
    each = rotating("JWT_SECRET")
    assert (each.state, each.in_use, each.other, each.settled) == (RotationState(), 0, None, 0)
    assert (each.rotated_at, each.overlap_until) == (None, None)
    assert each.max_age == timedelta(days=18), "the longest time between two runs, and a day"


def test_an_overlap_ends_a_while_after_the_rollout_and_at_once_in_an_emergency() -> None:
    later = at(MOMENT) + timedelta(days=1)
    assert rotating("JWT_SECRET", rotated={"JWT_SECRET": state("verified")}).overlap_until == later
    urgent = rotating("JWT_SECRET", rotated={"JWT_SECRET": state("verified", emergency=True, generation=1)})
    assert urgent.overlap_until == at(MOMENT)
    assert rotating("JWT_SECRET", rotated={"JWT_SECRET": state("dual")}).overlap_until is None


def test_the_age_is_that_of_the_value_in_use() -> None:
    earlier = "2026-11-01T00:00:00Z"
    failed = rotating("JWT_SECRET", rotated={"JWT_SECRET": state("failed", previousAt=earlier)})
    assert failed.rotated_at == at(earlier)
    assert rotating("JWT_SECRET", rotated={"JWT_SECRET": state("retired")}).rotated_at == at(MOMENT)


@pytest.mark.parametrize(
    ("now", "administrators"),
    [
        (state("pending", 2, 1), (1,)),
        (state("failed", 2, 1), (1,)),
        # The end of a rotation may have failed half-way.
        (state("verified", 2, 1), (1, 2)),
        (state("retired", 2, 1), (2, 1)),
        # An emergency within an overlap: the value in use was never used alone.
        (state("rolled-out", 3, 2, settled=1, emergency=True, generation=1), (1, 2)),
        (state("retired", 3, 2, settled=1, emergency=True, generation=1), (3, 1)),
    ],
)
def test_which_passwords_an_administrator_may_have(now: dict[str, Any], administrators: tuple[int, ...]) -> None:
    each = rotating("DATABASE_URL", rotated={"DATABASE_URL": now})
    assert (each.administrators, each.settled) == (administrators, administrators[0])


def test_a_check_runs_while_it_can_still_go_back() -> None:
    given = {"STRIPE_WEBHOOK_SECRET_B"}
    for phase in ("pending", "dual", "failed", "rolled-out", "verified", "retired"):
        rotated = {"STRIPE_WEBHOOK_SECRET": state(phase)}
        each = rotating("STRIPE_WEBHOOK_SECRET", rotated=rotated, given=given)
        assert (each.to_verify is not None) == (phase in ("rolled-out", "verified")), phase


# -- what is refused -----------------------------------------------------------------------------------

CASES: list[tuple[str, str, Any, str, str]] = [
    ("one slot", "rotated", {"JWT_SECRET": state(period=4, previous=2)}, "JWT_SECRET.previous", "share a slot"),
    ("backwards", "rotated", {"JWT_SECRET": state(period=3, previous=4)}, "JWT_SECRET.previous", "share a slot"),
    ("from nowhere", "rotated", {"JWT_SECRET": {"period": 1}}, "JWT_SECRET.previous", "takes over from a value"),
    ("no reason", "rotated", {"JWT_SECRET": state("failed") | {"failure": None}}, "JWT_SECRET.failure", "failed"),
    ("no zone", "rotated", {"JWT_SECRET": state(startedAt="2026-11-22T10:00")}, "startedAt", "10:00:00Z"),
    ("unknown phase", "rotated", {"JWT_SECRET": state("done")}, "rotated.JWT_SECRET.phase", "'pending'"),
    ("unknown secret", "rotation", {"secrets": {"JWT_SECRE": {}}}, "secrets.JWT_SECRE", "there are: BACKUP_S3"),
    (
        "overlap too long",
        "rotation",
        {"secrets": {"JWT_SECRET": {"schedule": "@daily", "overlapSeconds": 86_400}}},
        "JWT_SECRET.overlapSeconds",
        "overlapSeconds: 43200",
    ),
    (
        "default overlap too long",
        "rotation",
        {"secrets": {"JWT_SECRET": {"schedule": "@hourly"}}},
        "JWT_SECRET.overlapSeconds",
        "overlapSeconds: 1800",
    ),
    ("never revoked", "rotation", {"secrets": {"SMTP_URL": {"issue": "./i"}}}, "SMTP_URL.revoke", "for ever"),
    ("never issued", "rotation", {"secrets": {"SMTP_URL": {"revoke": "./r"}}}, "SMTP_URL.issue", "issue: ./issue.sh"),
    (
        "made by itself",
        "rotation",
        {"secrets": {"JWT_SECRET": {"issue": "./i", "revoke": "./r"}}},
        "JWT_SECRET.issue",
        "the program makes JWT_SECRET itself",
    ),
    (
        "no previous value",
        "rotation",
        {"secrets": {"REDIS_URL": {"verifyPrevious": {"run": "true"}}}},
        "REDIS_URL.verifyPrevious",
        "get no previous value of REDIS_URL",
    ),
    ("unused", "rotated", {"JWT_SECRET": state("dual", unused=True)}, "JWT_SECRET.unused", "where the phase is failed"),
    ("cron", "rotation", {"secrets": {"SMTP_URL": {"schedule": "0 0 1 *"}}}, "SMTP_URL.schedule", "4 fields"),
    ("no sessions", "rotation", {"sessionKeys": []}, "rotation.sessionKeys", "at least 1"),
]


@pytest.mark.parametrize(
    ("path", "value", "where", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_bad_value_is_refused_with_its_key(path: str, value: Any, where: str, says: str) -> None:
    message = str(refusal(prod(**{path: value})))
    assert where in message
    assert says in message


def test_the_longest_overlap_is_just_shorter_than_the_shortest_gap() -> None:
    def judge(overlap: int) -> Any:
        return rotating("JWT_SECRET", rotation={"secrets": {"JWT_SECRET": {"overlapSeconds": overlap}}})

    assert judge(14 * 86_400 - 1)
    with pytest.raises(Exception, match="the next rotation comes"):
        judge(14 * 86_400)


def test_a_value_that_is_missing_in_its_slot_is_asked_for() -> None:
    config = prod(rotated={"SMTP_URL": state("pending")})
    present = set(secrets_for(prod()))
    message = str(refusal(config, present))
    assert "pulumi config set --secret secrets:SMTP_URL_B" in message
    assert "runbook rotate SMTP_URL" in message
    assert judged(config, present | {"SMTP_URL_B"})


def test_an_unused_slot_may_be_empty_or_full() -> None:
    retired = prod(rotated={"SMTP_URL": state("retired"), "BACKUP_S3": state("retired")})
    slots = {"SMTP_URL_B", "BACKUP_S3_ACCESS_KEY_ID_B", "BACKUP_S3_SECRET_ACCESS_KEY_B"}
    both = set(secrets_for(prod())) | slots
    first = {"SMTP_URL", "BACKUP_S3_ACCESS_KEY_ID", "BACKUP_S3_SECRET_ACCESS_KEY"}
    assert set(judged(retired, both).secret_names) == set(judged(retired, both - first).secret_names) == both - first
    assert judged(prod(), both), "the next value may be there before its rotation"


def test_an_issued_value_cannot_be_supplied() -> None:
    policy = {"secrets": {"SMTP_URL": {"issue": "./issue", "revoke": "./revoke"}}}
    names = set(secrets_for(prod()))
    assert "SMTP_URL" in judged(prod(rotation=policy), names).secret_names, "the first value is given"
    first = prod(rotation=policy, rotated={"SMTP_URL": state("verified")})
    assert "SMTP_URL" in judged(first, names).secret_names, "and revoked as it was given"
    later = prod(rotation=policy, rotated={"SMTP_URL": state("retired")})
    assert "SMTP_URL" not in judged(later, names - {"SMTP_URL"}).secret_names


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("SMTP_URL_B", "holds every second value of SMTP_URL"),
        ("SMTP_URL_PREVIOUS", "when SMTP_URL is rotated"),
        ("JWT_SECRET_ID", "when JWT_SECRET is rotated"),
        ("JWT_SECRET_PREVIOUS_ID", "when JWT_SECRET is rotated"),
    ],
)
def test_a_name_means_one_thing(secret: str, says: str) -> None:
    config = prod()
    config["runbook:application"]["secrets"].append(secret)
    assert says in str(refusal(config))


def test_a_rollback_to_fewer_secrets_keeps_what_was_rotated() -> None:
    config = prod(rotated={"SMTP_URL": state("retired")}, rotation={"secrets": {"SMTP_URL": {"overlapSeconds": 0}}})
    names = set(secrets_for(config)) | {"SMTP_URL_B"}
    config["runbook:application"]["secrets"].remove("SMTP_URL")
    rollback = {"revision": 2, "action": "rollback", "rollbackOf": 1, "migrate": False}
    config["runbook:release"] = config["runbook:release"] | rollback
    assert "SMTP_URL" not in judged(config, names).rotations()
