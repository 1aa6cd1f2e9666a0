"""Objects of the backup chapter: network policies, order, and names by content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pulumi import RunError

from components.placeholders import HOST, placeholder
from tests.support.program import RELEASE, Program, Registered, run_program, secrets_for, stack_config
from tests.unit.test_backup_settings import RECIPIENT
from tests.unit.test_settings import edited

PART = "app.kubernetes.io/component"


def released(file: str = "Pulumi.sandbox.yaml", **changes: Any) -> dict[str, Any]:
    return stack_config(file, release=RELEASE | changes)


def pre_release(program: Program) -> Registered | None:
    found = [job for job in program.all("Job") if job.object_name.startswith("pre-release-")]
    assert len(found) <= 1
    return found[0] if found else None


def pod(program: Program, cron_job: str) -> Mapping[str, Any]:
    found = program.one("CronJob", cron_job).pod
    assert found is not None
    return found


def container(resource: Registered, name: str) -> Mapping[str, Any]:
    return next(item for item in resource.containers if item["name"] == name)


def variables(of: Mapping[str, Any]) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in of.get("env", [])}


def sources(of: Mapping[str, Any]) -> set[str]:
    return {ref["name"] for source in of.get("envFrom", []) for ref in source.values()}


def chosen(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def reach(program: Program, labels: Mapping[str, str]) -> set[str]:
    """Names of the policies that let pods with these labels out."""
    return {
        policy.object_name
        for policy in program.all("NetworkPolicy")
        if policy.inputs["spec"].get("egress") and chosen(policy.inputs["spec"]["podSelector"], labels)
    }


def pods_of_the_chapter(program: Program) -> Iterator[tuple[str, Mapping[str, str]]]:
    for resource in program.objects:
        if resource.template and resource.object_name.startswith(("backup", "restore", "pre-release")):
            yield resource.object_name, resource.template["metadata"]["labels"]


# -- who reaches what ----------------------------------------------------------------------------------


def test_each_pod_reaches_what_it_needs_and_nothing_else(sandbox: Program, prod: Program) -> None:
    for program, database in ((sandbox, "allow-backup-to-postgres"), (prod, "allow-backup-postgres")):
        seen = set()
        for name, labels in pods_of_the_chapter(program):
            expected = {"allow-dns", "allow-backup-store"}
            if labels[PART] == "backup":
                expected.add(database)
            if labels[PART] == "restore-test":
                # The release in it must not reach a bucket, which may be anywhere on the Internet.
                expected = {"allow-dns", "allow-restore-test-to-backup-exporter"}
            assert reach(program, labels) == expected, name
            seen.add(name.rsplit("-", 1)[0] if name.startswith("pre-") else name)
        assert seen == {"backup", "restore", "restore-test", "backup-exporter", "pre-release"}


def test_a_restore_test_reads_the_store_through_the_exporters_pod(sandbox: Program) -> None:
    """A policy cannot distinguish containers: the pod that runs the release has neither keys nor a way to the store."""
    test = sandbox.one("CronJob", "restore-test")
    for item in test.containers:
        assert "backup-store" not in sources(item), item["name"]
        has_token = "backup-store-token" in sources(item)
        assert has_token == (item["name"] in ("begin", "conclude")), item["name"]
        if has_token:
            assert variables(item)["BACKUP_STORE"] == "http://backup-exporter:9188"
    server = container(sandbox.one("Deployment", "backup-exporter"), "exporter")
    assert variables(server)["STORE_PORT"] == "9188"
    assert {"backup-store", "backup-store-token"} <= sources(server)
    (way,) = (p for p in sandbox.all("NetworkPolicy") if p.object_name == "allow-restore-test-into-backup-exporter")
    assert way.inputs["spec"]["ingress"][0]["ports"] == [{"port": 9188, "protocol": "TCP"}]
    ports = {port["name"]: port["port"] for port in sandbox.one("Service", "backup-exporter").inputs["spec"]["ports"]}
    assert ports == {"metrics": 9187, "store": 9188}


def test_the_database_accepts_backups_and_no_restore_tests(sandbox: Program) -> None:
    policies = [
        policy.inputs["spec"]
        for policy in sandbox.all("NetworkPolicy")
        if policy.inputs["spec"].get("ingress")
        and policy.inputs["spec"]["podSelector"].get("matchLabels", {}).get(PART) == "postgres"
    ]
    let_in = {
        name
        for name, labels in pods_of_the_chapter(sandbox)
        for spec in policies
        for rule in spec["ingress"]
        for peer in rule["from"]
        if chosen(peer["podSelector"], labels)
    }
    assert {name.rsplit("-", 1)[0] if name.startswith("pre-") else name for name in let_in} == {
        "backup", "restore", "pre-release",
    }  # fmt: skip


def test_a_restore_test_has_no_dsn_of_the_live_database(sandbox: Program) -> None:
    """Neither by a variable, nor by a Secret."""
    test = sandbox.one("CronJob", "restore-test")
    own = sandbox.one("Secret", "restore-test").inputs["stringData"]
    assert "@127.0.0.1:5432/" in own["DATABASE_URL"]
    serving = [item for item in test.containers if "restore-test-application" in sources(item)]
    assert serving
    for item in test.containers:
        assert "database" not in sources(item), item["name"]
    for item in serving:
        given = variables(item)
        assert given["DATABASE_URL"] == {"secretKeyRef": {"name": "restore-test", "key": "DATABASE_URL"}}
        assert given["REDIS_URL"] == "redis://127.0.0.1:6379/0"


def test_the_release_gets_no_live_secret_in_a_restore_test() -> None:
    config = edited(released("Pulumi.prod.yaml"), "backup.restoreTest.secrets", ["SESSION_SECRET"])
    config["runbook:application"]["secrets"] += ["SUPABASE_URL", "MAIL_URL", "DIRECT_URL"]
    given = secrets_for(config) | {
        "STRIPE_SECRET_KEY": "sk_live_51Abcdefghijklmnop",
        "SUPABASE_URL": "https://abcdefgh.supabase.co",
        "MAIL_URL": "smtps://shop:s3cret@smtp.example.com:465",
        "DIRECT_URL": "postgresql://shop:s3cret@db.example.com:5432/shop",
    }
    program = run_program(config, given)
    test = program.one("CronJob", "restore-test")
    for item in test.containers:
        assert not any(name.startswith("app-secrets-") for name in sources(item)), item["name"]
    values = program.one("Secret", "restore-test-application").inputs["stringData"]
    assert program.one("Secret", "restore-test-application").secret_inputs
    live = next(s for s in program.all("Secret") if s.object_name.startswith("app-secrets-")).inputs["stringData"]
    assert values.keys() == live.keys()
    same = {name for name in live if values[name] == live[name]}
    assert same == {name for name in live if name.endswith("_ID")} | {"SESSION_SECRET"}
    assert values["STRIPE_SECRET_KEY"].startswith("sk_live_")
    assert values["SUPABASE_URL"] == "https://placeholder.invalid"
    assert values["MAIL_URL"].endswith("@placeholder.invalid:465")
    for item in test.containers:
        if "restore-test-application" in sources(item):
            assert variables(item)["DIRECT_URL"] == {"secretKeyRef": {"name": "restore-test", "key": "DATABASE_URL"}}


def test_a_restore_test_leaves_no_restored_data_behind(sandbox: Program) -> None:
    test = sandbox.one("CronJob", "restore-test")
    server = container(test, "postgres")
    assert server["lifecycle"] == {"preStop": {"exec": {"command": ["sh", "-c", 'rm -rf "$PGDATA"']}}}
    held = next(mount for mount in server["volumeMounts"] if mount["name"] == "scratch")
    assert variables(server)["PGDATA"].startswith(held["mountPath"] + "/")
    assert pod(sandbox, "restore-test")["terminationGracePeriodSeconds"] >= 10


def test_a_secret_that_is_kept_has_to_exist() -> None:
    config = edited(released(), "backup.restoreTest.secrets", ["NO_SUCH_KEY"])
    with pytest.raises(RunError, match="NO_SUCH_KEY"):
        run_program(config)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("sk_live_51Abcdefghijklmnop", r"sk_live_\d\d[A-Z][a-z]{15}"),
        ("whsec_abcdef0123456789", r"whsec_[a-z]{6}\d{10}"),
        ("https://abc.example.com/hook/T0123?key=abc", r"https://placeholder\.invalid/[a-z]{4}/[A-Z]\d{4}"),
        ("smtp://user:pass@mail.example.com:587", r"smtp://[a-z]{4}:[a-z]+@placeholder\.invalid:587"),
        ("0123456789abcdef0123456789abcdef", r"[0-9a-f]{32}"),
        ("AAECAwQFBgcICQoLDA0ODw==", r"[A-Za-z0-9+/]{22}=="),
        ("ops@example.com", r"placeholder@placeholder\.invalid"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZSJ9.c2lnbmF0dXJl", r"eyJ[\w-]+\.eyJ[\w-]+\.[a-z]{43}"),
        ('{"client_email": "a@b.example.com", "project": "abc-1", "n": 1}', r".*placeholder@placeholder\.invalid.*"),
        ("", ""),
    ],
)
def test_placeholders_have_the_shape_of_what_they_replace(value: str, shape: str) -> None:
    made = placeholder("SOME_KEY", value)
    assert re.fullmatch(shape, made), made
    assert made != value or not value
    assert made == placeholder("SOME_KEY", value)
    if len(value) > 8:
        assert made != placeholder("OTHER_KEY", value) or HOST in made


def test_nothing_is_decrypted_where_it_need_not_be() -> None:
    config = edited(released(), "backup.encryption", {"recipients": [RECIPIENT]})
    program = run_program(config)
    assert program.one("Secret", "backup-identities").inputs["stringData"] == {
        "identities": "value-of-backup_identities"
    }
    holders = {
        resource.object_name
        for resource in program.objects
        if resource.pod and any(volume["name"] == "backup-identities" for volume in resource.pod["volumes"])
    }
    assert holders == {"restore", "restore-test"}
    assert program.one("ConfigMap", "backup-settings").inputs["data"]["BACKUP_RECIPIENTS"] == RECIPIENT


def test_keys_of_the_store_are_secret_and_handed_to_tasks_alone(sandbox: Program) -> None:
    store = sandbox.one("Secret", "backup-store")
    assert set(store.inputs["stringData"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert store.secret_inputs
    for resource in sandbox.objects:
        for item in resource.containers if resource.pod else []:
            words = item.get("command", [])
            is_task = (
                words[:3] == ["python3", "-m", "tasks"]
                and words[3] not in ("credentials", "debug", "reach")
                and resource.object_name != "operations"
            )
            # A restore test's tasks read it through the exporter's pod.
            # What guards a migration asks the database alone.
            has_keys = is_task and resource.object_name != "restore-test" and item["name"] != "migration-guard"
            assert ("backup-store" in sources(item)) == has_keys, f"{resource.object_name}/{item['name']}"
    app = next(secret for secret in sandbox.all("Secret") if secret.object_name.startswith("app-secrets-"))
    assert not [key for key in app.inputs["stringData"] if key.startswith(("AWS_", "BACKUP_"))]


def test_a_pod_identity_needs_no_keys() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/backups"}
    config = edited(released(), "backup.destination.credentials", "podIdentity")
    program = run_program(edited(config, "backup.destination.serviceAccountAnnotations", role))
    assert not [secret for secret in program.all("Secret") if secret.object_name == "backup-store"]
    known = {
        account.object_name
        for account in program.all("ServiceAccount")
        if role.items() <= account.inputs["metadata"]["annotations"].items()
    }
    # Not the restore test, whose pod runs the release.
    assert known == {"backup", "backup-exporter"}


# -- the recurring backup ------------------------------------------------------------------------------


def test_schedules(sandbox: Program) -> None:
    for name, schedule, suspended in (
        ("backup", "0 * * * *", False), ("restore-test", "15 * * * *", False), ("restore", "0 0 1 1 *", True),
    ):  # fmt: skip
        spec = sandbox.one("CronJob", name).inputs["spec"]
        assert (spec["schedule"], spec["suspend"], spec["timeZone"]) == (schedule, suspended, "Etc/UTC")
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["startingDeadlineSeconds"] > 10, "the controller looks every ten seconds"
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
        assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 1)


def test_schedules_can_be_suspended() -> None:
    program = run_program(edited(released(), "backup.suspend", True))
    assert all(job.inputs["spec"]["suspend"] for job in program.all("CronJob"))


def test_cleanup_comes_after_a_backup_and_makes_no_second_one(sandbox: Program) -> None:
    job = sandbox.one("CronJob", "backup")
    (create,), (cleanup,) = pod(sandbox, "backup")["initContainers"], pod(sandbox, "backup")["containers"]
    assert create["command"] == ["python3", "-m", "tasks", "backup", "create", "--kind", "scheduled"]
    assert cleanup["command"] == ["python3", "-m", "tasks", "backup", "cleanup"]
    rules = job.inputs["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert {"containerName": "cleanup", "operator": "NotIn", "values": [0]} in [r.get("onExitCodes") for r in rules]
    assert pod(sandbox, "backup")["restartPolicy"] == "Never", "a failure policy needs it"
    assert "database" in sources(create)
    assert "database" not in sources(cleanup)
    assert variables(create)["RELEASE_REVISION"] == "1"


def test_settings_passed_to_tasks() -> None:
    config = edited(released(), "backup.retention", {"days": 3, "monthly": 6, "least": 2})
    config = edited(config, "backup.keep", ["20260816T020000Z-pre-release-4f1a"])
    settings = run_program(config).one("ConfigMap", "backup-settings").inputs["data"]
    assert settings == {
        "BACKUP_STORE": "s3://backups/shop",
        "S3_ENDPOINT_URL": "http://10.240.0.1:8333",
        "S3_REGION": "",
        "S3_PATH_STYLE": "true",
        "S3_CREATE_BUCKET": "true",
        "S3_OBJECT_LOCK_DAYS": "",
        "BACKUP_RETENTION_DAYS": "3",
        "BACKUP_KEEP_DAILY": "0",
        "BACKUP_KEEP_WEEKLY": "8",
        "BACKUP_KEEP_MONTHLY": "6",
        "BACKUP_KEEP_YEARLY": "0",
        "BACKUP_KEEP_LEAST": "2",
        "BACKUP_KEEP_IDS": "20260816T020000Z-pre-release-4f1a",
        "BACKUP_FORMAT": "custom",
        "BACKUP_JOBS": "2",
        "BACKUP_RECIPIENTS": "",
        "BACKUP_INTERVAL_SECONDS": "3600",
        "BACKUP_WAIT_SECONDS": "600",
        "RESTORE_TEST_MAX_AGE_HOURS": "24",
        "RESTORE_TEST_TIMEOUT_SECONDS": "300",
        "SCHEMA_LEVEL_QUERY": config["runbook:backup"]["schemaLevelQuery"],
    }


def test_stacks_that_share_a_bucket_have_a_folder_each() -> None:
    config = released() | {"runbook:namespace": "shop-two"}
    assert run_program(config).one("ConfigMap", "backup-settings").inputs["data"]["BACKUP_STORE"].endswith("/shop-two")


def test_a_volume_instead_of_a_bucket() -> None:
    program = run_program(edited(released(), "backup.destination", {"mode": "volume", "size": "1Gi"}))
    claim = program.one("PersistentVolumeClaim", "backups")
    assert claim.inputs["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    assert program.one("ConfigMap", "backup-settings").inputs["data"]["BACKUP_STORE"] == "file:///backups"
    assert not [p for p in program.all("NetworkPolicy") if p.object_name == "allow-backup-store"]
    for name in ("backup", "restore", "restore-test"):
        tasks = [c for c in program.one("CronJob", name).containers if c.get("command", [])[:1] == ["python3"]]
        assert tasks
        for task in tasks:
            assert "/backups" in [mount["mountPath"] for mount in task["volumeMounts"]], f"{name}/{task['name']}"


@pytest.mark.parametrize("form", ["custom", "directory"])
def test_only_a_dump_that_needs_the_disk_gets_one(form: str) -> None:
    roomy = edited(released(), "guards.quota.storage", "20Gi")
    program = run_program(edited(roomy, "backup.format", form))
    create = container(program.one("CronJob", "backup"), "create")
    assert (variables(create).get("SCRATCH") == "/scratch") == (form == "directory")
    assert any("ephemeral" in volume for volume in pod(program, "backup")["volumes"]) == (form == "directory")


def test_the_toolbox_has_one_container_with_everything(sandbox: Program) -> None:
    """`runbook` puts its own words into it."""
    (only,) = pod(sandbox, "restore")["containers"]
    assert "initContainers" not in pod(sandbox, "restore")
    assert {"backup-settings", "backup-store", "database"} <= sources(only)
    assert variables(only)["SCRATCH"] == "/scratch"


# -- before a migration --------------------------------------------------------------------------------


def test_the_gate_and_a_backup_come_before_the_migration(sandbox: Program) -> None:
    job = pre_release(sandbox)
    assert job is not None
    (both,) = job.containers
    assert both["command"][3:] == ["backup", "pre-release", "--within-hours", "24", "--if-behind", "1"]
    assert variables(both)["RELEASE_IMAGE"] == RELEASE["image"]
    assert both["terminationMessagePolicy"] == "FallbackToLogsOnError", "the provider shows why the gate is closed"
    migrate = next(j for j in sandbox.all("Job") if j.object_name.startswith("migrate-"))
    assert sandbox.waits_for(migrate, job)
    # As the migration's: a second update finds it done.
    assert job.object_name.removeprefix("pre-release-") == migrate.object_name.removeprefix("migrate-")
    assert job.inputs["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"


def test_a_reason_skips_the_gate_and_changes_no_name(sandbox: Program) -> None:
    job = pre_release(run_program(released(withoutProof="the store moved")))
    first = pre_release(sandbox)
    assert job is not None
    assert first is not None
    assert job.containers[0]["command"][-2:] == ["--without-proof", "the store moved"]
    assert job.object_name == first.object_name


def test_no_migration_no_gate() -> None:
    assert pre_release(run_program(released(revision=2, action="rollback", rollbackOf=1, migrate=False))) is None


def test_without_backups_the_release_is_unchanged(sandbox: Program) -> None:
    config = released()
    del config["runbook:backup"]
    without = run_program(config)
    # What makes a service go or stay is the same, and nothing is left of the chapter.
    with_them = {r.urn: r.inputs for r in sandbox.objects}
    changed = {r.object_name.split("-")[0] for r in without.objects if with_them[r.urn] != r.inputs}
    assert changed == {"rotation", "migrate"}, "the status knows no keys of a store, the migration waits for no backup"
    extra = {r.object_name for r in sandbox.objects} - {r.object_name for r in without.objects}
    assert all("backup" in name or "restore" in name or "pre-release" in name for name in extra)


# -- the restore test ----------------------------------------------------------------------------------


def test_a_restore_test_goes_through_everything_in_order(sandbox: Program) -> None:
    steps = pod(sandbox, "restore-test")["initContainers"]
    assert [step["name"] for step in steps] == ["postgres", "redis", "begin", "migrate", "backend", "smoke"]
    (conclude,) = pod(sandbox, "restore-test")["containers"]
    assert conclude["command"][3:] == ["restore", "test-conclude", "--json"]
    sidecars = [step["name"] for step in steps if step.get("restartPolicy") == "Always"]
    assert sidecars == ["postgres", "redis", "backend"]
    for step in steps:
        assert ("startupProbe" in step) == (step["name"] in sidecars), step["name"]
    begin = steps[2]
    assert begin["command"][3:] == ["restore", "test-begin"]
    # What begin leaves, conclude finds.
    assert variables(begin)["SCRATCH"] == variables(conclude)["SCRATCH"] == "/scratch"


def test_the_release_in_a_restore_test_is_the_one_rolled_out(sandbox: Program) -> None:
    test, real = sandbox.one("CronJob", "restore-test"), sandbox.one("Deployment", "backend").containers[0]
    aside = container(test, "backend")
    for same in ("image", "command", "resources", "securityContext", "startupProbe"):
        assert aside[same] == real[same]
    assert aside["envFrom"][:1] == real["envFrom"][:1]
    migrate = next(j for j in sandbox.all("Job") if j.object_name.startswith("migrate-")).containers
    assert container(test, "migrate")["command"] in [each["command"] for each in migrate]
    assert variables(container(test, "smoke"))["TARGET_URL"] == "http://127.0.0.1:3000"


def test_what_a_release_cannot_reach_in_a_test_is_overridden(prod: Program) -> None:
    aside = container(prod.one("CronJob", "restore-test"), "backend")
    assert variables(aside)["SMTP_URL"] == ""
    assert variables(container(prod.one("CronJob", "restore-test"), "smoke"))["SMTP_URL"] == ""


def test_servers_of_a_test_are_as_the_live_ones_and_throw_their_data_away(sandbox: Program) -> None:
    test, live = sandbox.one("CronJob", "restore-test"), sandbox.one("StatefulSet", "postgres")
    server = container(test, "postgres")
    assert server["image"] == live.containers[0]["image"]
    assert (
        server["securityContext"]["runAsUser"]
        == live.inputs["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    )
    assert "listen_addresses=127.0.0.1" in server["args"]
    data = next(mount for mount in server["volumeMounts"] if mount["mountPath"] == "/var/lib/postgresql/data")
    volume = next(v for v in pod(sandbox, "restore-test")["volumes"] if v["name"] == data["name"])
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    assert "storageClassName" not in volume["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert "made-up" not in json.dumps(test.inputs)


def test_scratch_volumes_have_a_storage_class_of_their_own() -> None:
    """K4: a cluster without a default one."""
    config = released()
    config["runbook:backup"]["scratchStorageClass"] = "gp3"
    program = run_program(config)
    claims = [
        volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"]
        for owner in program.objects
        for volume in ((owner.pod or {}).get("volumes") or ())
        if "ephemeral" in volume
    ]
    assert claims
    assert set(claims) == {"gp3"}


def test_several_command_lines_are_several_steps() -> None:
    config = released()
    config["runbook:commands"]["rehearsal"] = {"run": ["npm run one", "npm run two"]}
    config["runbook:commands"]["migrate"] |= {"runner": "command", "directory": "../shop"}
    steps = [step["name"] for step in pod(run_program(config), "restore-test")["initContainers"]]
    assert steps == ["postgres", "redis", "begin", "backend", "smoke-1", "smoke-2"]


def test_without_a_release_there_is_nothing_to_serve_on_a_restored_database() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml"))
    assert {job.object_name for job in program.all("CronJob")} == {"backup", "restore", "credentials"}


# -- the exporter --------------------------------------------------------------------------------------


def test_the_exporter_restarts_when_its_settings_change(sandbox: Program) -> None:
    def template(config: dict[str, Any], secrets: dict[str, str] | None = None) -> Any:
        return run_program(config, secrets).one("Deployment", "backup-exporter").template

    first = sandbox.one("Deployment", "backup-exporter").template
    assert template(released(revision=2, image=RELEASE["image"])) == first, "a release is no reason"
    assert template(edited(released(), "backup.retention.days", 9)) != first
    rotated = secrets_for(released()) | {"BACKUP_S3_SECRET_ACCESS_KEY": "another"}
    assert template(released(), rotated) != first
