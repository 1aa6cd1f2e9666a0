"""What a rotation does next: periods and slots, phases, what is due."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.causes.cause import Cause, describe_failure
from ops.cli.formatting import print_rotations
from ops.commands import repair, rotate
from ops.commands.emergency import find_others
from ops.decisions import rotation
from ops.decisions.release_state import outdated_rotations
from ops.errors import Refused
from ops.stack.history import Entry
from settings.rotation import Policy, RotationState, SecretRotation, slot, slot_key
from tests.support.program import secrets_for
from tests.unit.test_settings import edited, judged, prod

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
LONG_AGO = AT - timedelta(days=400)
HOUR = 3600


def rotating(name: str = "JWT_SECRET", kind: Any = "key", **state: Any) -> SecretRotation:
    if "period" in state:
        state = {"startedAt": rotation.format_time(AT), "phaseAt": rotation.format_time(AT), **state}
    policy = Policy(schedule="0 0 1,15 * *", overlap_seconds=HOUR, verify=None, issue=None, revoke=None)
    return SecretRotation(name, kind, policy, "Etc/UTC", RotationState.model_validate(state))


@pytest.mark.parametrize(
    ("state", "period", "previous"),
    [
        ({}, 1, 0),
        ({"period": 4, "previous": 3, "phase": "retired"}, 5, 4),
        # After a failure the previous value is in use: its slot is not the one to fill.
        ({"period": 4, "previous": 3, "phase": "failed", "failure": "no"}, 6, 3),
        ({"period": 6, "previous": 3, "phase": "failed", "failure": "no"}, 8, 3),
    ],
)
def test_the_next_value_goes_into_the_slot_that_is_not_in_use(
    state: dict[str, Any], period: int, previous: int
) -> None:
    now = rotating(**state)
    begun = rotation.begin_rotation(now, AT)
    assert (begun.period, begun.previous, begun.phase) == (period, previous, "pending")
    assert slot(begun.period) != slot(now.in_use)


@pytest.mark.parametrize("phase", ["pending", "tested", "dual", "rolled-out", "verified", "retired"])
def test_an_emergency_never_overwrites_the_value_in_use(phase: str) -> None:
    now = rotating(period=4, previous=3, phase=phase)
    begun = rotation.begin_rotation(now, AT, emergency=True)
    assert slot(begun.period) != slot(now.in_use)
    assert (begun.phase, begun.emergency, begun.generation) == ("retired", True, 1)
    assert begun.period > 4


def test_the_phases_lead_from_the_first_to_the_last() -> None:
    walked, state = [], rotation.begin_rotation(rotating(), AT)
    while state.phase != "retired":
        walked.append(state.phase)
        state = rotation.enter_phase(state, rotation.NEXT[state.phase], AT)
    assert walked == ["pending", "tested", "dual", "rolled-out", "verified"]


def test_a_rotation_waits_for_its_overlap_unless_it_is_skipped() -> None:
    now = rotating(period=1, previous=0, phase="verified")
    assert rotation.is_finished(now, AT, overlap=True)
    assert not rotation.is_finished(now, AT + timedelta(seconds=HOUR), overlap=True)
    assert not rotation.is_finished(now, AT, overlap=False)
    assert rotation.is_finished(rotating(period=1, previous=0, phase="retired"), AT, overlap=False)
    assert not rotation.is_finished(rotating(period=1, previous=0, phase="dual"), AT, overlap=True)


@pytest.mark.parametrize(
    ("state", "at", "action", "when"),
    [
        ({}, AT, "begin", datetime(2026, 11, 15, tzinfo=UTC)),
        ({"period": 1, "previous": 0, "phase": "retired"}, AT, "wait", datetime(2026, 12, 1, tzinfo=UTC)),
        (
            {"period": 1, "previous": 0, "phase": "retired"},
            datetime(2026, 12, 1, tzinfo=UTC),
            "begin",
            datetime(2026, 12, 1, tzinfo=UTC),
        ),
        ({"period": 1, "previous": 0, "phase": "dual"}, AT, "resume", AT),
        ({"period": 1, "previous": 0, "phase": "verified"}, AT, "wait", AT + timedelta(seconds=HOUR)),
        (
            {"period": 1, "previous": 0, "phase": "verified"},
            AT + timedelta(seconds=HOUR),
            "retire",
            AT + timedelta(seconds=HOUR),
        ),
        # One that failed is not tried again every hour, but when its schedule says so.
        (
            {"period": 1, "previous": 0, "phase": "failed", "failure": "no"},
            AT,
            "wait",
            datetime(2026, 12, 1, tzinfo=UTC),
        ),
    ],
)
def test_due(state: dict[str, Any], at: datetime, action: str, when: datetime) -> None:
    found = rotation.due(rotating(**state), at, LONG_AGO)
    assert (found.action, found.when) == (action, when)


def test_a_value_from_outside_has_to_be_supplied() -> None:
    assert rotation.due(rotating("STRIPE_SECRET_KEY", "given"), AT, LONG_AGO).action == "give"


def test_no_value_is_stored_before_all_have_been_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input has one value: with two secrets the second is missing, and the stack file stays as it was."""
    stored: list[str] = []
    monkeypatch.setattr(rotate, "store_values", lambda *_: stored.append("a value"))
    run = object.__new__(rotate.RotationRun)
    run.rotations = {name: rotating(name, "given") for name in ("STRIPE_SECRET_KEY", "SMTP_URL")}
    run.facts = cast(Any, SimpleNamespace(clock=SimpleNamespace(now=lambda: AT)))

    def bring(each: SecretRotation) -> dict[str, str]:
        if each.name == "SMTP_URL":
            raise Refused("SMTP_URL comes from outside")
        return {each.name: "new"}

    with pytest.raises(Refused, match="SMTP_URL"):
        run.advance(list(run.rotations), bring, overlap=True)
    assert stored == []


def never(name: str, *, guessed: bool = False, kind: str = "key") -> SecretRotation:
    one = rotating(name, kind)
    return replace(one, policy=replace(one.policy, never=True, guessed=guessed))


def test_a_key_that_encrypts_data_is_never_due_and_never_replaced() -> None:
    known = {"ENCRYPTION_KEY": never("ENCRYPTION_KEY"), "APP_KEY": never("APP_KEY", guessed=True)}
    assert rotation.due(known["ENCRYPTION_KEY"], AT, LONG_AGO) == rotation.Due("ENCRYPTION_KEY", "never", None)
    with pytest.raises(Refused, match="because of `rotate: never`: data that it encrypted would become unreadable"):
        rotation.refuse_never(["ENCRYPTION_KEY"], known)
    with pytest.raises(Refused, match=r"looks like a key .* set \S+\.APP_KEY\.rotate: by-schedule"):
        rotation.refuse_never(["APP_KEY"], known)
    rotation.refuse_never(["JWT_SECRET"], {"JWT_SECRET": rotating()})


def test_an_emergency_names_what_it_leaves_and_what_to_do() -> None:
    known = {
        "JWT_SECRET": rotating(),
        "ENCRYPTION_KEY": never("ENCRYPTION_KEY"),
        "SMTP_URL": rotating("SMTP_URL", "given"),
        "MASTER_KEY": never("MASTER_KEY", kind="given"),
    }
    others = ("DATABASE_ADMIN_URL", "BACKUP_IDENTITIES", "STATE_PASSPHRASE", "STATE_ACCESS_KEY", "SLACK_WEBHOOK_ALERTS")
    left = {each.secret: each for each in rotation.list_left([*known], known, others)}
    assert [*left] == ["ENCRYPTION_KEY", "SMTP_URL", "MASTER_KEY", *others]
    assert "unreadable" in left["ENCRYPTION_KEY"].why
    assert "unreadable" in left["MASTER_KEY"].why
    assert "rotate start SMTP_URL --no-overlap" in left["SMTP_URL"].then
    for name in others:
        assert "{" not in left[name].then
        assert f"pulumi config set --secret secrets:{name}" in left[name].then
    assert "at the database" in left["DATABASE_ADMIN_URL"].then
    assert "runbook secrets provider passphrase" in left["STATE_PASSPHRASE"].then
    assert "new webhook in Slack" in left["SLACK_WEBHOOK_ALERTS"].then


def test_every_secret_of_a_stack_is_replaced_or_left_with_a_reason() -> None:
    config = edited(prod(), "data.postgres.admin", True)
    settings = judged(config, set(secrets_for(config)))
    others = find_others(settings)
    assert "DATABASE_ADMIN_URL" in others
    rotations = settings.rotations()
    left = rotation.list_left([*rotations], rotations, others)
    replaced = {slot_key(name, 0) for each in rotations.values() for name in (each.name, *each.secret_names)}
    assert set(settings.secret_names) <= {each.secret for each in left} | replaced
    assert not set(others) & replaced


def test_which_logins_a_repair_is_of() -> None:
    turned = {"period": 1, "previous": 0, "phase": "retired"}
    known = {
        "DATABASE_URL": rotating("DATABASE_URL", "database", **turned),
        "REDIS_URL": rotating("REDIS_URL", "redis"),
        "SMTP_URL": rotating("SMTP_URL", "given", **turned),
    }
    assert rotation.choose_repairs([], known) == ["DATABASE_URL"]
    assert rotation.choose_repairs(["database"], known) == ["DATABASE_URL"]
    for name, why in (("redis", "never rotated"), ("smtp", "no login that the stack makes")):
        with pytest.raises(Refused, match=why):
            rotation.choose_repairs([name], known)
    with pytest.raises(Refused, match="nothing to repair"):
        rotation.choose_repairs([], {"REDIS_URL": known["REDIS_URL"]})


@pytest.mark.parametrize(
    ("phase", "interrupted", "flags"),
    [("retired", False, ("--retired",)), ("retired", True, ()), ("verified", False, ()), ("failed", False, ())],
)
def test_a_repair_refuses_the_previous_login_only_where_it_was_retired(
    monkeypatch: pytest.MonkeyPatch, phase: str, interrupted: bool, flags: tuple[str, ...]
) -> None:
    ran: list[tuple[str, ...]] = []

    class FakeTasks:
        def __init__(self, *_: object) -> None: ...

        def run(self, *words: str) -> dict[str, Any]:
            ran.append(words)
            return {"admitted": ["shop_b"], "refused": bool(flags)}

    failure = {"failure": "no"} if phase == "failed" else {}
    known = {"DATABASE_URL": rotating("DATABASE_URL", "database", period=1, previous=0, phase=phase, **failure)}
    run = SimpleNamespace(
        rotations=known, facts=SimpleNamespace(cluster=None), is_interrupted=lambda _name: interrupted
    )
    monkeypatch.setattr(repair.RotationRun, "start", lambda *_: run)
    monkeypatch.setattr(repair, "StackLock", lambda *_: nullcontext(SimpleNamespace(asking=nullcontext)))
    monkeypatch.setattr(repair, "require_unlocked", lambda *_: None)
    monkeypatch.setattr(repair, "Tasks", FakeTasks)
    session: Any = SimpleNamespace(file=None, say=None, seconds=0.0)
    policy: Any = None
    with pytest.raises(Refused, match="Not confirmed"):
        repair.repair_logins(session, [], policy, lambda _names: False)
    assert ran == []
    done = repair.repair_logins(session, [], policy, lambda names: names == ["DATABASE_URL"])
    assert ran == [("credentials", "repair", "database", *flags)]
    assert done["repaired"] == {"DATABASE_URL": {"admitted": ["shop_b"], "refused": bool(flags)}}


def test_a_repair_that_the_administrator_cannot_do_says_what_to_set() -> None:
    said = rotation.explain_repair("DATABASE_URL", "the server refuses dba", "admin_refused")
    assert "the server refuses dba" in said
    assert "secrets:DATABASE_ADMIN_URL" in said
    assert "secrets:" not in rotation.explain_repair("DATABASE_URL", "the server is down", "database_unreachable")


def test_names_are_found_by_their_first_characters() -> None:
    known = {name: rotating(name) for name in ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "JWT_SECRET")}
    assert rotation.find_secrets(["stripe-webhook", "jwt_secret", "JWT_SECRET"], known) == [
        "STRIPE_WEBHOOK_SECRET",
        "JWT_SECRET",
    ]
    with pytest.raises(Refused, match="more than one secret stripe"):
        rotation.find_secrets(["stripe"], known)
    with pytest.raises(Refused, match=r"no secret smtp\. Those that rotate: JWT_SECRET, STRIPE_SECRET_KEY"):
        rotation.find_secrets(["smtp"], known)


def test_a_stack_file_without_the_latest_rotation_is_detected() -> None:
    def entry(**rotated: str) -> Entry:
        states = {name: {"startedAt": at} for name, at in rotated.items()}
        return Entry("update", "succeeded", AT, AT, "", {}, {"runbook:rotated": states}, {})

    file = {"runbook:rotated": {"JWT_SECRET": {"startedAt": "2026-11-01T00:00:00Z"}}}
    assert outdated_rotations(file, entry(JWT_SECRET="2026-11-01T00:00:00Z")) == []
    assert outdated_rotations(file, entry(JWT_SECRET="2026-11-15T00:00:00Z", REDIS_URL="2026-11-02T00:00:00Z")) == [
        "JWT_SECRET",
        "REDIS_URL",
    ]
    assert outdated_rotations(file, None) == outdated_rotations(file, entry()) == []


PHASES = ("pending", "tested", "dual", "rolled-out", "verified", "retired", "failed")


@pytest.mark.parametrize("theirs", PHASES)
@pytest.mark.parametrize("mine", PHASES)
def test_a_stack_file_at_an_earlier_phase_is_detected(mine: str, theirs: str) -> None:
    """One that is at `dual` after the rotation was retired would use a password that is refused."""
    order = PHASES[:-1]
    if "failed" in (mine, theirs):
        # A rotation that failed has ended; one that was retired did not fail.
        older = mine != theirs and theirs in ("failed", "retired")
    else:
        older = order.index(mine) < order.index(theirs)
    states = [{"JWT_SECRET": {"startedAt": "2026-11-01T00:00:00Z", "phase": phase}} for phase in (mine, theirs)]
    entry = Entry("update", "succeeded", AT, AT, "", {}, {"runbook:rotated": states[1]}, {})
    assert outdated_rotations({"runbook:rotated": states[0]}, entry) == (["JWT_SECRET"] if older else [])


def test_what_is_recorded_of_a_failure_repeats_nothing_that_was_printed() -> None:
    printed = "the new key is sk_live_1"
    cause = Cause("Job verify-x", f"Job verify-x failed: {printed}", "BackoffLimitExceeded", log=[printed])
    said = describe_failure(["Job verify-x"], [cause])
    assert said == "Job verify-x failed: BackoffLimitExceeded"
    assert describe_failure(["Job verify-x"], [replace(cause, exit_code=7)]) == "Job verify-x failed: exit code 7"
    assert describe_failure(["Command a", "Command b", "Job c"], []) == "Command a and Command b failed"
    assert describe_failure([], []) == "the program failed"


def test_only_a_value_that_no_pod_had_is_discarded() -> None:
    begun = rotation.begin_rotation(rotating(), AT)
    assert rotation.fail(begun, AT, "no").unused
    assert not rotation.fail(rotation.enter_phase(begun, "dual", AT), AT, "no").unused
    failed = replace(rotating(), state=rotation.fail(begun, AT, "no"))
    assert (failed.in_use, failed.other, failed.accepted, failed.periods) == (0, None, None, (0,))
    assert rotation.begin_rotation(failed, AT).period == 3, "the number is not used again"


def test_the_status_of_a_secret_that_is_never_rotated(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, Any] = {"secret": "ENCRYPTION_KEY", "kind": "key", "period": 0, "phase": "retired", "failure": None}
    row |= {"ageSeconds": 86_400 * 40, "maxAgeSeconds": None, "previousUsedBy": None}
    print_rotations([row | {"next": {"action": "never", "when": None}}])
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "ENCRYPTION_KEY", "key", "0", "retired", "40", "days", "-", "never", "-",
    ]  # fmt: skip
