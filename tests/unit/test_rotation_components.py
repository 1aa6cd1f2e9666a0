"""Objects of rotation: the value that pods get in each phase, and the jobs that change logins at the servers."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from components.data import REDIS_RULES
from components.logins import owner as logins_owner
from tasks.credentials.redis import RULES
from tests.support.program import RELEASE, Program, Registered, run_program, secrets_for, stack_config
from tests.unit.test_backup_components import reach, variables
from tests.unit.test_settings_rotation import MOMENT, state

GIVEN = "STRIPE_WEBHOOK_SECRET"
PHASES = ("pending", "tested", "dual", "failed", "rolled-out", "verified", "retired")


@cache
def _program(file: str, rotated: str, rotation: str, release: str) -> Program:
    config = stack_config(file, release=RELEASE | json.loads(release), rotated=json.loads(rotated))
    if rotation != "null":
        config["runbook:rotation"] = json.loads(rotation)
    secrets = secrets_for(config)
    slots = {f"{name}_B": f"{value}-b" for name, value in secrets.items() if not name.startswith("DATABASE_")}
    return run_program(config, secrets | slots)


def program(
    rotated: dict[str, Any] | None = None, file: str = "Pulumi.sandbox.yaml", rotation: Any = None, **release: Any
) -> Program:
    return _program(file, json.dumps(rotated or {}), json.dumps(rotation), json.dumps(release))


def in_phase(phase: str) -> Program:
    """One secret of every kind, at the same time."""
    return program({name: state(phase) for name in ("JWT_SECRET", GIVEN, "DATABASE_URL", "REDIS_URL", "BACKUP_S3")})


def environment(made: Program) -> dict[str, str]:
    """The secret variables of the services."""
    return app_secret(made).inputs["stringData"]


def app_secret(made: Program) -> Registered:
    return next(secret for secret in made.all("Secret") if secret.object_name.startswith("app-secrets-"))


def task_variables(made: Program) -> dict[str, str]:
    """Variables of rotation's tasks."""
    return made.one("Secret", "rotation").inputs["stringData"]


def jobs(made: Program, prefix: str) -> list[Registered]:
    return [job for job in made.all("Job") if job.object_name.startswith(prefix)]


def job(made: Program, prefix: str) -> Registered:
    (found,) = jobs(made, prefix)
    return found


# -- what a pod gets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "current", "previous"),
    [
        ("pending", 0, None),
        ("tested", 0, None),
        ("dual", 0, 1),
        ("failed", 0, 1),
        ("rolled-out", 1, 0),
        ("verified", 1, 0),
        ("retired", 1, None),
    ],
)
def test_what_a_pod_gets_in_every_phase(phase: str, current: int, previous: int | None) -> None:
    keys = ["made-up-jwt-secret", "made-up-jwt-secret-b"]
    given = [f"value-of-{GIVEN.lower()}", f"value-of-{GIVEN.lower()}-b"]
    users = ["shop:made-up-postgres-password", "shop_b:made-up-postgres-password-b"]
    expected = {
        "JWT_SECRET": keys[current],
        "JWT_SECRET_ID": f"0.{current}",
        GIVEN: given[current],
        "DATABASE_URL": f"postgresql://{users[current]}@postgres:5432/shop",
    }
    if previous is not None:
        expected |= {
            "JWT_SECRET_PREVIOUS": keys[previous],
            "JWT_SECRET_PREVIOUS_ID": f"0.{previous}",
            f"{GIVEN}_PREVIOUS": given[previous],
        }
    found = environment(in_phase(phase))
    prefixes = ("JWT_", GIVEN, "DATABASE_")
    assert {name: value for name, value in found.items() if name.startswith(prefixes)} == expected
    dsn = {"DATABASE_URL": expected["DATABASE_URL"]}
    assert in_phase(phase).one("Secret", "database").inputs["stringData"] == dsn


def test_pods_are_replaced_only_when_they_get_something_else() -> None:
    """The same environment is the same Secret, by its name."""
    names = {phase: app_secret(in_phase(phase)).object_name for phase in PHASES}
    names["never"] = app_secret(program()).object_name
    assert names["never"] == names["pending"] == names["tested"]
    assert names["dual"] == names["failed"]
    assert names["rolled-out"] == names["verified"]
    assert len(set(names.values())) == 4


def test_pods_get_one_login_since_servers_accept_both() -> None:
    dual = program({name: state("dual") for name in ("DATABASE_URL", "REDIS_URL", "BACKUP_S3")})
    assert app_secret(dual).object_name == app_secret(program()).object_name


def test_in_an_emergency_nothing_but_the_new_value_is_accepted() -> None:
    urgent = state("rolled-out", emergency=True, generation=1)
    found = environment(program({"JWT_SECRET": urgent, GIVEN: urgent}))
    assert not [name for name in found if "_PREVIOUS" in name]
    assert (found["JWT_SECRET"], found["JWT_SECRET_ID"]) == ("made-up-jwt-secret-b", "1.1")


def test_a_rotation_replaces_the_older_slot_and_leaves_the_other() -> None:
    """What a value hangs on: its resource's name and its keepers."""
    made = {
        period: {
            password.name: password.inputs.get("keepers")
            for password in program({"JWT_SECRET": state("dual", period, period - 1)}).all("RandomPassword")
            if password.name.startswith("jwt-")
        }
        for period in (1, 2, 3)
    }
    assert made[1] == {"jwt-secret": None, "jwt-secret-b": {"period": "1"}}, "the first is as it was before rotation"
    assert made[2] == {"jwt-secret-b": {"period": "1"}, "jwt-secret-a": {"period": "2"}}
    assert made[3] == {"jwt-secret-a": {"period": "2"}, "jwt-secret-b": {"period": "3"}}


def test_a_value_that_is_retired_is_no_longer_kept() -> None:
    names = {password.name for password in in_phase("retired").all("RandomPassword")}
    assert "jwt-secret-b" in names
    assert "jwt-secret" not in names


def test_values_are_secret_wherever_they_stand() -> None:
    made = in_phase("verified")
    for resource in made.objects:
        if resource.kind == "Secret":
            for key in resource.inputs["stringData"]:
                if key != "SESSION_KEYS":
                    assert {f"stringData.{key}", "stringData"} & resource.secret_inputs, f"{resource.urn} {key}"
        else:
            text = json.dumps(resource.inputs)
            assert "made-up-" not in text, resource.urn
            assert "value-of-" not in text, resource.urn


# -- database and cache --------------------------------------------------------------------------------

KINDS = ("database", "redis")


def logins(made: Program, kind: str) -> dict[str, str]:
    """User and password of every DSN in the variables of tasks."""
    prefix = f"ROTATE_{kind.upper()}_"
    return {
        name.removeprefix(prefix).removesuffix("_URL"): value.partition("://")[2].partition("@")[0]
        for name, value in task_variables(made).items()
        if name.startswith(prefix) and "://" in value
    }


def test_a_database_that_was_never_rotated_is_as_it_was() -> None:
    made = program()
    assert environment(made)["DATABASE_URL"] == "postgresql://shop:made-up-postgres-password@postgres:5432/shop"
    assert environment(made)["REDIS_URL"] == "redis://default:made-up-redis-password@redis:6379/0"
    assert logins(made, "database") == {"ADMIN": "shop:made-up-postgres-password"}
    assert task_variables(made)["ROTATE_DATABASE_OWNER"] == "shop"
    assert not jobs(made, "rotate-")


def test_roles_take_turns_and_the_administrator_changes_at_the_end() -> None:
    a, b = "shop_a:made-up-postgres-password-a", "shop_b:made-up-postgres-password-b"
    first, second, third = (
        f"shop:made-up-postgres-{name}" for name in ("password", "administrator-1", "administrator-2")
    )
    expected = {
        ("pending", 1): {"ADMIN": first, "NEW": b, "OLD": first},
        ("retired", 1): {"ADMIN": second, "ADMIN_URL_PREVIOUS": first, "NEW": b, "OLD": first},
        ("dual", 2): {"ADMIN": second, "NEW": a, "OLD": b},
        # The end of the rotation may have failed half-way.
        ("verified", 2): {"ADMIN": second, "ADMIN_URL_PREVIOUS": third, "NEW": a, "OLD": b},
        ("retired", 2): {"ADMIN": third, "ADMIN_URL_PREVIOUS": second, "NEW": a, "OLD": b},
    }
    for (phase, period), wanted in expected.items():
        found = logins(program({"DATABASE_URL": state(phase, period, period - 1)}), "database")
        assert found == wanted, (phase, period)


def test_an_emergency_within_an_overlap_still_knows_the_administrator() -> None:
    urgent = state("rolled-out", 2, 1, settled=0, emergency=True, generation=1)
    found = logins(program({"DATABASE_URL": urgent}), "database")
    assert found["ADMIN"] == "shop:made-up-postgres-password"
    assert found["NEW"] == "shop_a:made-up-postgres-password-a"


def test_a_server_starts_with_what_holds() -> None:
    made = in_phase("retired")
    assert made.one("Secret", "postgres-password").inputs["stringData"] == {
        "password": "made-up-postgres-administrator-1"
    }
    redis = made.one("Secret", "redis-password").inputs["stringData"]
    assert redis["password"] == "made-up-redis-administrator-1"
    hashed = hashlib.sha256(b"made-up-redis-password-b").hexdigest()
    assert redis["users"].splitlines()[1:] == [f"user shop-b on #{hashed} {REDIS_RULES}"]


def test_redis_makes_both_users_again_while_both_are_accepted() -> None:
    def users(made: Program) -> list[str]:
        lines = made.one("Secret", "redis-password").inputs["stringData"]["users"].splitlines()
        return sorted(line.split()[1] for line in lines if not line.startswith("#"))

    assert users(program()) == []
    for phase in ("pending", "dual", "failed", "verified"):
        assert users(in_phase(phase)) == ["shop-b"], phase
    assert users(program({"REDIS_URL": state("verified", 2, 1)})) == ["shop-a", "shop-b"]
    mounted = variables(program().one("StatefulSet", "redis").containers[-1])
    assert mounted["REDIS_USERS_FILE"] == "/run/secrets/redis/users"


def test_the_task_and_the_server_give_a_user_the_same_rights() -> None:
    assert REDIS_RULES == RULES


def test_a_server_is_not_restarted_by_a_rotation() -> None:
    for name in ("postgres", "redis"):
        assert len({json.dumps(in_phase(phase).one("StatefulSet", name).inputs) for phase in PHASES}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_is_prepared_before_anything_uses_it_and_ended_after_everything(kind: str) -> None:
    before, after = in_phase("pending"), in_phase("retired")
    prepare, retire = job(before, f"rotate-{kind}-prepare"), job(after, f"rotate-{kind}-retire")
    server = before.one("StatefulSet", "postgres" if kind == "database" else "redis")
    steps = [server, prepare, job(before, "pre-release"), job(before, "migrate"), before.one("Deployment", "backend")]
    for earlier, later in pairwise(steps):
        assert before.waits_for(later, earlier), f"{later.name} does not wait for {earlier.name}"
    for earlier in (job(after, f"rotate-{kind}-prepare"), after.one("Deployment", "backend"), job(after, "smoke")):
        assert after.waits_for(retire, earlier), f"{retire.name} does not wait for {earlier.name}"
    assert not jobs(before, f"rotate-{kind}-retire")
    assert prepare.containers[0]["command"][3:] == ["credentials", "prepare", kind]
    assert retire.containers[0]["command"][3:] == ["credentials", "retire", kind]
    assert prepare.containers[0]["envFrom"] == [{"secretRef": {"name": "rotation"}}]


def test_no_rule_fails_a_job_that_the_engine_waits_for() -> None:
    """The official provider ends its wait at the backoff limit or the deadline only, else at its time-out."""
    for phase in PHASES:
        for made in in_phase(phase).all("Job"):
            rules = made.inputs["spec"].get("podFailurePolicy", {}).get("rules", [])
            assert all(rule["action"] == "Ignore" for rule in rules), made.object_name


def test_what_was_done_for_a_period_is_done_once() -> None:
    servers = ("DATABASE_URL", "REDIS_URL")
    image = "registry.example.com/shop@sha256:" + "c" * 64
    released = program({name: state("retired") for name in servers}, revision=2, image=image)
    following = program({name: state("pending", 2, 1) for name in servers})
    for kind in KINDS:
        prepared = [job(in_phase(phase), f"rotate-{kind}-prepare") for phase in PHASES]
        again = job(released, f"rotate-{kind}-prepare")
        assert all((one.urn, one.inputs) == (again.urn, again.inputs) for one in prepared)
        assert job(in_phase("retired"), f"rotate-{kind}-retire").inputs == job(released, f"rotate-{kind}-retire").inputs
        assert job(following, f"rotate-{kind}-prepare").object_name != again.object_name


def test_a_preparation_that_failed_is_not_run_again_on_the_way_back() -> None:
    """It would fail again, and with it the return to the previous value."""
    made = program({name: state("failed", unused=True) for name in ("DATABASE_URL", "REDIS_URL", GIVEN)})
    for kind in KINDS:
        assert jobs(made, f"rotate-{kind}-prepare") == []


def test_an_emergency_ends_a_login_that_is_in_use() -> None:
    made = program({"DATABASE_URL": state("retired", emergency=True, generation=1)})
    assert job(made, "rotate-database-retire").containers[0]["command"][-1] == "--force"


def test_tasks_reach_the_data_services_and_nothing_else() -> None:
    for file, policies in (
        ("Pulumi.sandbox.yaml", {"allow-dns", "allow-rotation-to-postgres", "allow-rotation-to-redis"}),
        ("Pulumi.prod.yaml", {"allow-dns", "allow-rotation-postgres", "allow-rotation-redis"}),
    ):
        made = program({"DATABASE_URL": state("retired")}, file)
        for resource in (made.one("CronJob", "credentials"), job(made, "rotate-database-prepare")):
            assert resource.template
            assert reach(made, resource.template["metadata"]["labels"]) == policies


def test_the_toolbox_has_one_container_with_everything() -> None:
    """`runbook` puts its own words into it."""
    toolbox = program().one("CronJob", "credentials")
    assert toolbox.pod
    (only,) = toolbox.pod["containers"]
    assert only["name"] == "credentials"
    assert toolbox.inputs["spec"]["suspend"] is True
    assert task_variables(program())["SESSION_KEYS"] == "session:*"


# -- external data services ----------------------------------------------------------------------------


def test_an_administrator_makes_roles_beside_the_first() -> None:
    made = program({"DATABASE_URL": state("verified")}, "Pulumi.prod.yaml")
    first = "postgresql://url:value-of-database_url@db.example.com:5432/shop?sslmode=require"
    second = "postgresql://url_b:made-up-postgres-password-b@db.example.com:5432/shop?sslmode=require"
    assert environment(made)["DATABASE_URL"] == second
    known = task_variables(made)
    assert (known["ROTATE_DATABASE_NEW_URL"], known["ROTATE_DATABASE_OLD_URL"]) == (second, first)
    assert known["ROTATE_DATABASE_ADMIN_URL"].startswith("postgresql://admin:")
    assert (known["ROTATE_DATABASE_ADMIN_FIXED"], known["ROTATE_DATABASE_OWNER"]) == ("true", "url")


@pytest.mark.parametrize("dsn", ["postgresql://db:5432/shop", "host=db user=shop password=s3cr3t", "x://a:s3cr3t@b℀/c"])
def test_a_dsn_without_a_role_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(ValueError, match="secrets:DATABASE_URL names no role") as caught:
        logins_owner(dsn)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__context__ is None
    assert logins_owner("postgresql://sh%40p:x@db/shop") == "sh@p"


def test_an_external_cache_rotates_by_its_dsn() -> None:
    dual = environment(program({"REDIS_URL": state("dual")}, "Pulumi.prod.yaml"))
    assert dual["REDIS_URL"] == "value-of-redis_url"
    assert "REDIS_URL_PREVIOUS" not in dual
    made = program({"REDIS_URL": state("verified")}, "Pulumi.prod.yaml")
    assert environment(made)["REDIS_URL"] == "value-of-redis_url-b"
    assert task_variables(made)["ROTATE_REDIS_ADMIN_URL"] == "value-of-redis_url-b", "sessions are ended by it"
    assert not jobs(made, "rotate-redis")


# -- values from outside -------------------------------------------------------------------------------

ISSUED = {"secrets": {GIVEN: {"issue": "./issue", "revoke": "./revoke"}}}


def commands(made: Program) -> dict[str, Registered]:
    return {command.name: command for command in made.all("Command")}


def test_what_is_issued_is_revoked_by_leaving_it_out() -> None:
    name = "stripe-webhook-secret"
    lives = {
        ("never", 1): set(),
        ("pending", 1): {f"{name}-0", f"{name}-1"},
        ("verified", 1): {f"{name}-0", f"{name}-1"},
        ("retired", 1): {f"{name}-1"},
        ("failed", 2): {f"{name}-1", f"{name}-2"},
        ("retired", 2): {f"{name}-2"},
    }
    for (phase, period), expected in lives.items():
        rotated = {} if phase == "never" else {GIVEN: state(phase, period, period - 1)}
        assert set(commands(program(rotated, rotation=ISSUED))) == expected, (phase, period)


def test_an_issued_value_is_made_once_and_never_shown() -> None:
    made = program({GIVEN: state("verified")}, rotation=ISSUED)
    issued, first = commands(made)["stripe-webhook-secret-1"], commands(made)["stripe-webhook-secret-0"]
    assert issued.inputs["environment"]["RUNBOOK_ISSUE"] == "./issue"
    assert issued.inputs["environment"]["RUNBOOK_REVOKE"] == "./revoke"
    assert "./issue" not in issued.inputs["create"], "other processes can read the arguments of a command"
    assert "PULUMI_COMMAND_STDOUT" in issued.inputs["update"], "another command line makes no other value"
    for command in (issued, first):
        assert command.inputs["logging"] == "none"
        assert command.inputs["addPreviousOutputInEnv"] is True
    # What was given at first ends the same way.
    assert first.inputs["environment"]["GIVEN"] == f"value-of-{GIVEN.lower()}"
    assert first.inputs["environment"]["RUNBOOK_REVOKE"] == "./revoke"
    assert "environment" in first.secret_inputs


def test_the_stores_keys_are_those_in_use() -> None:
    rotation = {"secrets": {"BACKUP_S3": {"issue": "./issue", "revoke": "./revoke"}}}
    for phase, end in (("dual", ""), ("verified", "-b")):
        brought = program({"BACKUP_S3": state(phase)}, rotation={}).one("Secret", "backup-store")
        assert brought.inputs["stringData"]["AWS_ACCESS_KEY_ID"] == f"value-of-backup_s3_access_key_id{end}"
    issued = program({"BACKUP_S3": state("verified")}, rotation=rotation)
    assert issued.one("Secret", "backup-store").inputs["stringData"] == {
        "AWS_ACCESS_KEY_ID": "id-backup-s3-1", "AWS_SECRET_ACCESS_KEY": "key-backup-s3-1",
    }  # fmt: skip
    adopted = commands(issued)["backup-s3-0"].inputs["environment"]["GIVEN"]
    assert json.loads(adopted) == {
        "accessKeyId": "value-of-backup_s3_access_key_id", "secretAccessKey": "value-of-backup_s3_secret_access_key",
    }  # fmt: skip


def assert_beside_smoke(made: Program, check: Registered) -> None:
    """After the rollout and the cache, as the smoke check; a rollback waits for the longer of the two."""
    smoke = job(made, "smoke")
    assert made.waits_for(check, job(made, "cache"))
    assert not made.waits_for(check, smoke)
    assert not made.waits_for(smoke, check)


def test_a_check_runs_beside_the_smoke_check_while_it_can_still_go_back() -> None:
    for phase in PHASES:
        made = in_phase(phase)
        found = jobs(made, "verify-stripe-webhook-secret")
        assert len(found) == (phase in ("rolled-out", "verified")), phase
        for check in found:
            assert_beside_smoke(made, check)
            assert check.containers[-1]["command"] == ["npm", "run", "ops:webhooks:verify", "--workspace", "backend"]
            assert check.containers[-1]["envFrom"] == made.one("Deployment", "backend").containers[0]["envFrom"]
            # Neither the pod's status nor `runbook` repeats what it prints.
            assert check.containers[-1]["terminationMessagePolicy"] == "File"
            assert check.template
            assert check.template["metadata"]["annotations"]["runbook/output"] == "secret"


# -- metrics ---------------------------------------------------------------------------------------------


def test_the_status_file_has_the_phase_of_each_rotation() -> None:
    made = program({"JWT_SECRET": state("verified"), GIVEN: state("failed")})
    status = {entry["secret"]: entry for entry in json.loads(
        made.one("ConfigMap", "rotation-status").inputs["data"]["status.json"]
    )}  # fmt: skip
    assert status["JWT_SECRET"] == {
        "secret": "JWT_SECRET", "kind": "key", "phase": "verified", "period": 1, "generation": 0,
        "rotated_at": "2026-11-22T10:00:00+00:00", "max_age_seconds": 18 * 86_400,
        "overlap_until": "2026-11-23T10:00:00+00:00", "failure": None, "emergency_at": None,
    }  # fmt: skip
    assert (status[GIVEN]["failure"], status[GIVEN]["rotated_at"]) == ("verification failed", None)
    assert status["REDIS_URL"]["phase"] == "retired"
    exporter = made.one("Deployment", "backup-exporter")
    file = variables(exporter.containers[0])["ROTATION_STATUS"]
    mount = next(m for m in exporter.containers[0]["volumeMounts"] if m["name"] == "rotation")
    assert file == f"{mount['mountPath']}/status.json"
    urgent = program({"JWT_SECRET": state("retired", emergency=True, generation=1)})
    status = json.loads(urgent.one("ConfigMap", "rotation-status").inputs["data"]["status.json"])
    assert next(entry for entry in status if entry["secret"] == "JWT_SECRET")["emergency_at"] == MOMENT


def test_a_rotation_does_not_restart_the_exporter() -> None:
    first, other = (program(rotated).one("Deployment", "backup-exporter") for rotated in ({}, {"JWT_SECRET": state()}))
    assert first.template == other.template


def test_a_release_before_rotation_works_with_what_was_rotated() -> None:
    rotated = {name: state("verified") for name in ("JWT_SECRET", GIVEN, "DATABASE_URL", "REDIS_URL")}
    back = program(rotated, revision=2, action="rollback", rollbackOf=1, migrate=False)
    assert environment(back) == environment(program(rotated))


def test_a_check_with_the_two_values_exchanged_runs_while_both_are_accepted() -> None:
    """Before the rollout too: an application that ignores the second value fails before a customer is logged out."""
    check = {"secrets": {"JWT_SECRET": {"verifyPrevious": {"run": "npm run tokens"}}}}
    for phase in PHASES:
        made = program({"JWT_SECRET": state(phase)}, rotation=check)
        found = jobs(made, "verify-previous-jwt-secret")
        assert len(found) == (phase in ("dual", "rolled-out", "verified")), phase
        for one in found:
            assert_beside_smoke(made, one)
            container = one.containers[-1]
            assert container["command"] == ["npm", "run", "tokens"]
            (secret,) = {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
            got = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each}
            assert got == {
                "JWT_SECRET": {"name": secret, "key": "JWT_SECRET_PREVIOUS"},
                "JWT_SECRET_PREVIOUS": {"name": secret, "key": "JWT_SECRET"},
                "JWT_SECRET_ID": {"name": secret, "key": "JWT_SECRET_PREVIOUS_ID"},
                "JWT_SECRET_PREVIOUS_ID": {"name": secret, "key": "JWT_SECRET_ID"},
            }
            assert container["terminationMessagePolicy"] == "File"
    urgent = program({"JWT_SECRET": state("rolled-out", emergency=True, generation=1)}, rotation=check)
    assert jobs(urgent, "verify-previous-jwt-secret") == []
