"""What the program asks the cluster for: pod hygiene over every pod, order, names, secrets, networking."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest

from components.application import SCALED
from tests.support.program import RELEASE, Program, Registered, run_program, secrets_for, stack_config

BACKEND_PORT = 3000


def released(file: str = "Pulumi.sandbox.yaml", **changes: Any) -> dict[str, Any]:
    return stack_config(file, release=RELEASE | changes)


def service(config: Mapping[str, Any]) -> dict[str, Any]:
    return config["runbook:application"]["services"][0]


def pods(*programs: Program) -> Iterator[tuple[str, Registered]]:
    for program in programs:
        for resource in program.objects:
            if resource.pod:
                yield f"{resource.kind}/{resource.object_name}", resource


def job(program: Program, name: str) -> Registered | None:
    found = [r for r in program.all("Job") if r.object_name.startswith(f"{name}-")]
    assert len(found) <= 1
    return found[0] if found else None


# -- every pod ---------------------------------------------------------------------------------------


def test_there_are_pods_of_every_kind(sandbox: Program, prod: Program) -> None:
    kinds = {where.split("-")[0] for where, _ in pods(sandbox)}
    assert kinds == {
        "StatefulSet/postgres", "StatefulSet/redis", "Deployment/backend",
        "Job/pre", "Job/migrate", "Job/rehearsal", "Job/cache", "Job/smoke",
        "CronJob/backup", "CronJob/restore", "Deployment/backup", "CronJob/credentials", "CronJob/operations",
    }  # fmt: skip
    assert not prod.all("StatefulSet")


def test_pods_meet_pod_security_restricted(sandbox: Program, prod: Program) -> None:
    for where, resource in pods(sandbox, prod):
        pod = resource.pod
        assert pod is not None
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] > 0, where
        assert security["runAsGroup"] > 0, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert pod["automountServiceAccountToken"] is False, where
        assert pod["serviceAccountName"] not in ("", "default"), where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), where
        assert all("hostPath" not in volume for volume in pod["volumes"]), where


def test_containers_have_no_privileges_and_limits_on_everything(sandbox: Program, prod: Program) -> None:
    for where, resource in pods(sandbox, prod):
        for container in resource.containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["readOnlyRootFilesystem"] is True, where
            assert security["capabilities"] == {"drop": ["ALL"]}, where
            for side in ("requests", "limits"):
                assert set(container["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}, where
            assert "@sha256:" in container["image"], where
            assert container["imagePullPolicy"] == "IfNotPresent", where
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], where


def test_mounts_name_volumes_that_exist(sandbox: Program) -> None:
    for where, resource in pods(sandbox):
        claims = [claim["metadata"]["name"] for claim in resource.inputs["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in (resource.pod or {})["volumes"]} | set(claims)
        for container in resource.containers:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, where


def test_selectors_match_their_pods(sandbox: Program) -> None:
    for where, resource in pods(sandbox):
        if resource.kind not in ("Job", "CronJob"):
            wanted = resource.inputs["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= resource.inputs["spec"]["template"]["metadata"]["labels"].items(), where


def test_servers_have_three_probes_and_liveness_is_not_readiness(sandbox: Program, prod: Program) -> None:
    for where, resource in pods(sandbox, prod):
        if resource.kind in ("Job", "CronJob"):
            continue
        for container in (resource.pod or {})["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), where
            question = ("httpGet", "exec", "tcpSocket")
            liveness, readiness = (
                {key: container[f"{kind}Probe"].get(key) for key in question} for kind in ("liveness", "readiness")
            )
            assert liveness != readiness, where


def test_every_object_says_where_it_belongs(sandbox: Program, prod: Program) -> None:
    for program in (sandbox, prod):
        for resource in program.objects:
            labels = resource.inputs["metadata"]["labels"]
            assert labels["app.kubernetes.io/managed-by"] == "pulumi", resource.urn
            if resource.kind != "Namespace":
                assert resource.inputs["metadata"]["namespace"] == program.outputs["namespace"], resource.urn


def test_every_resource_has_a_component_as_parent(sandbox: Program) -> None:
    for resource in sandbox.resources:
        if not resource.type.startswith("runbook:"):
            assert "runbook:" in resource.parent, resource.urn


# -- releases ------------------------------------------------------------------------------------------


def test_the_order_of_an_update(sandbox: Program) -> None:
    steps = [sandbox.one("StatefulSet", "postgres"), job(sandbox, "pre-release"), job(sandbox, "migrate")]
    steps += [job(sandbox, "rehearsal")]
    steps += [sandbox.one("Deployment", "backend"), job(sandbox, "cache"), job(sandbox, "smoke")]
    for earlier, later in pairwise(steps):
        assert earlier is not None
        assert later is not None
        assert sandbox.waits_for(later, earlier), f"{later.name} does not wait for {earlier.name}"


def test_the_guards_stand_before_anything_runs(sandbox: Program) -> None:
    for guard in (sandbox.one("NetworkPolicy", "default-deny"), sandbox.one("ResourceQuota", "quota")):
        for _, resource in pods(sandbox):
            assert sandbox.waits_for(resource, guard), f"{resource.name} does not wait for {guard.name}"


def test_the_same_release_is_the_same_program(sandbox: Program) -> None:
    again = run_program(released())
    assert {r.urn: r.inputs for r in again.resources} == {r.urn: r.inputs for r in sandbox.resources}


def test_a_rollback_runs_no_migration_but_the_checks_again(sandbox: Program) -> None:
    back = run_program(released(revision=2, action="rollback", rollbackOf=1, migrate=False))
    assert job(back, "migrate") is None
    assert job(back, "rehearsal") is None
    for name in ("cache", "smoke"):
        before, after = job(sandbox, name), job(back, name)
        assert before is not None
        assert after is not None
        assert before.object_name != after.object_name
    # The pods are what they were: the same template, so nothing is replaced that runs already.
    template = sandbox.one("Deployment", "backend").inputs["spec"]["template"]
    assert back.one("Deployment", "backend").inputs["spec"]["template"] == template


def test_a_release_migrates_once_and_a_new_one_again(sandbox: Program) -> None:
    config = released()
    service(config)["env"] = {"LOG_LEVEL": "debug"}
    reconfigured = run_program(config)
    other = run_program(released(revision=2, image="registry.example.com/shop@sha256:" + "c" * 64))
    same, new, first = job(reconfigured, "migrate"), job(other, "migrate"), job(sandbox, "migrate")
    assert first is not None
    assert same is not None
    assert new is not None
    assert same.urn == first.urn
    assert same.inputs == first.inputs
    assert new.urn != first.urn


def test_a_rotated_secret_rolls_the_pods_and_migrates_nothing() -> None:
    config = released("Pulumi.prod.yaml")
    secrets = secrets_for(config)
    before = run_program(config, secrets)
    after = run_program(config, secrets | {"DATABASE_URL": "postgresql://shop:rotated@db:5432/shop"})
    assert before.one("Deployment", "backend").pod != after.one("Deployment", "backend").pod
    old, new = job(before, "migrate"), job(after, "migrate")
    assert old is not None
    assert new is not None
    assert old.inputs == new.inputs
    assert after.one("Secret", "database").inputs["stringData"] == {
        "DATABASE_URL": "postgresql://shop:rotated@db:5432/shop"
    }


def test_changed_configuration_is_another_immutable_object(sandbox: Program) -> None:
    config = released()
    service(config)["env"] = {"LOG_LEVEL": "debug"}
    after = run_program(config)
    old, new = (
        next(r for r in program.all("ConfigMap") if r.object_name.startswith("backend-config-"))
        for program in (sandbox, after)
    )
    assert old.inputs["immutable"] is True
    # Another logical name too: the engine makes the new one first and deletes the old one last.
    assert old.urn != new.urn
    assert old.object_name != new.object_name
    assert after.one("Deployment", "backend").containers[0]["envFrom"][0]["configMapRef"]["name"] == new.object_name


def test_without_a_release_there_is_only_the_foundation() -> None:
    program = run_program(stack_config("Pulumi.sandbox.yaml"))
    assert program.all("StatefulSet")
    assert {r.object_name for r in program.all("Deployment")} == {"backup-exporter"}
    assert not program.all("Job")
    assert program.outputs == {"namespace": "shop"}


def test_what_a_release_exports(sandbox: Program) -> None:
    assert sandbox.outputs == {
        "namespace": "shop",
        "url": "http://localhost:18080",
        "services": ["backend"],
        "image": RELEASE["image"],
        "revision": 1,
    }


def test_a_failed_job_is_run_again_and_none_is_cleaned_away(sandbox: Program) -> None:
    for resource in sandbox.all("Job"):
        assert resource.inputs["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"
        assert "ttlSecondsAfterFinished" not in resource.inputs["spec"]
        deadline = resource.inputs["spec"]["activeDeadlineSeconds"]
        assert int(float(resource.timeouts["create"].removesuffix("s"))) > deadline


def test_checks_after_the_rollout_ask_the_service(sandbox: Program) -> None:
    for name in ("cache", "smoke"):
        check = job(sandbox, name)
        assert check is not None
        wait, own = check.containers
        assert own["env"] == [{"name": "TARGET_URL", "value": f"http://backend:{BACKEND_PORT}"}]
        assert own["envFrom"] == sandbox.one("Deployment", "backend").containers[0]["envFrom"]
        # The network of a new pod refuses connections for a moment, which is no fault of the release.
        assert wait["command"] == ["python3", "-m", "tasks", "reach", f"http://backend:{BACKEND_PORT}"]
        assert wait["image"] != own["image"]


def test_a_rehearsal_is_the_release_itself_aside_from_traffic(sandbox: Program) -> None:
    rehearsal, deployment = job(sandbox, "rehearsal"), sandbox.one("Deployment", "backend")
    assert rehearsal is not None
    assert rehearsal.pod is not None
    sidecar, real = rehearsal.pod["initContainers"][0], deployment.containers[0]
    assert sidecar["restartPolicy"] == "Always"
    # Only so does a crash of the sidecar fail the Job with the first restart, and an eviction of its pod does not.
    assert rehearsal.pod["restartPolicy"] == "OnFailure"
    assert rehearsal.inputs["spec"]["backoffLimit"] == 1
    for same in ("image", "command", "envFrom", "resources", "securityContext", "startupProbe"):
        assert sidecar[same] == real[same]
    check = rehearsal.pod["containers"][0]
    assert check["command"] == ["npm", "run", "smoke:all", "--workspace", "backend"]
    assert check["env"] == [{"name": "TARGET_URL", "value": f"http://127.0.0.1:{BACKEND_PORT}"}]
    # No Service may send it customers.
    labels = rehearsal.inputs["spec"]["template"]["metadata"]["labels"]
    for other in sandbox.all("Service"):
        assert not other.inputs["spec"]["selector"].items() <= labels.items()


def test_commands_run_one_after_another() -> None:
    config = released()
    config["runbook:commands"]["smoke"] = {"run": ["npm run one", "npm run 'the second'", "npm run three"]}
    smoke = job(run_program(config), "smoke")
    assert smoke is not None
    assert [c["command"] for c in (smoke.pod or {})["initContainers"] if c["name"] != "reach"] == [
        ["npm", "run", "one"],
        ["npm", "run", "the second"],
    ]
    assert [c["command"] for c in (smoke.pod or {})["containers"]] == [["npm", "run", "three"]]


def test_migrations_by_command_where_the_update_runs() -> None:
    config = released()
    config["runbook:commands"]["migrate"] |= {"runner": "command", "directory": "../shop"}
    program = run_program(config)
    assert job(program, "migrate") is None
    command = program.one("Command")
    assert command.inputs["environment"]["RUNBOOK_MIGRATE"] == "npm run db:migrate --workspace backend"
    assert command.inputs["dir"] == "../shop"
    assert "environment" in command.secret_inputs
    assert command.inputs["update"] == "true", "a rotated password must not migrate again"
    assert program.waits_for(program.one("Deployment", "backend"), command)
    assert program.waits_for(command, program.one("StatefulSet", "postgres"))


# -- the application -----------------------------------------------------------------------------------


def test_a_rollout_never_has_fewer_pods(sandbox: Program) -> None:
    spec = sandbox.one("Deployment", "backend").inputs["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}
    assert spec["replicas"] == 2
    container = spec["template"]["spec"]["containers"][0]
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > wait > 0
    assert sandbox.one("PodDisruptionBudget", "backend").inputs["spec"]["maxUnavailable"] == 1


def test_an_autoscaler_owns_the_number_of_pods(prod: Program, sandbox: Program) -> None:
    """R7: the number is written where the Deployment is new, and left alone when an autoscaler takes over."""
    scaled, fixed = prod.one("Deployment", "backend"), sandbox.one("Deployment", "backend")
    assert scaled.inputs["spec"]["replicas"] == 3
    assert (scaled.ignored, fixed.ignored) == (("spec.replicas",), ())
    # And back: the provider writes only what differs from the state, so that something has to differ.
    assert [SCALED in each.inputs["metadata"]["annotations"] for each in (scaled, fixed)] == [True, False]
    spec = prod.one("HorizontalPodAutoscaler", "backend").inputs["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)


def test_the_revision_does_not_replace_pods(sandbox: Program) -> None:
    deployment = sandbox.one("Deployment", "backend")
    assert deployment.inputs["metadata"]["annotations"]["runbook/revision"] == "1"
    assert "runbook/revision" not in json.dumps(deployment.inputs["spec"])


def test_configuration_of_the_application(sandbox: Program) -> None:
    config = next(r for r in sandbox.all("ConfigMap") if r.object_name.startswith("backend-config-")).inputs["data"]
    assert config == {
        "NODE_ENV": "production",
        "PORT": str(BACKEND_PORT),
        "PUBLIC_URL": "http://localhost:18080",
        "RELEASE_GIT": "1a2b3c4",
        "SCHEMA_MIN": "1",
        "SCHEMA_MAX": "2",
        "LOG_LEVEL": "info",
    }
    references = sandbox.one("Deployment", "backend").containers[0]["envFrom"]
    secret = next(r for r in sandbox.all("Secret") if r.object_name.startswith("app-secrets-"))
    assert references[1] == {"secretRef": {"name": secret.object_name}}
    assert set(secret.inputs["stringData"]) == {
        "DATABASE_URL", "REDIS_URL", "JWT_SECRET", "JWT_SECRET_ID", "SESSION_SECRET", "SESSION_SECRET_ID",
        "INTERNAL_API_KEY", "INTERNAL_API_KEY_ID",
        "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET",
    }  # fmt: skip


def test_several_services_share_one_ingress() -> None:
    config = released()
    first = service(config)
    worker = first | {"name": "worker", "command": "npm run worker"}
    worker["probes"] = {kind: {"command": f"node {kind}.js"} for kind in ("startup", "readiness", "liveness")}
    del worker["port"], worker["paths"]
    frontend = first | {"name": "frontend", "port": 8080, "paths": ["/"]}
    config["runbook:application"]["services"] = [first | {"paths": ["/api"]}, frontend, worker]
    config["runbook:guards"] = {}
    program = run_program(config)
    assert {r.object_name for r in program.all("Deployment")} == {"backend", "frontend", "worker", "backup-exporter"}
    assert program.outputs["services"] == ["backend", "frontend", "worker"]
    assert "worker" not in [r.object_name for r in program.all("Service")]
    rule = program.one("Ingress").inputs["spec"]["rules"][0]
    targets = [(p["path"], p["backend"]["service"]["name"]) for p in rule["http"]["paths"]]
    assert targets == [("/api", "backend"), ("/", "frontend")]


# -- secrets, data, networking -------------------------------------------------------------------------


def test_secrets_are_secret_wherever_they_stand() -> None:
    config = released("Pulumi.prod.yaml")
    secrets = {name: value.replace("value-of-", "canary-") for name, value in secrets_for(config).items()}
    program = run_program(config, secrets)
    for resource in program.resources:
        if resource.kind == "Secret":
            assert all(f"stringData.{key}" in resource.secret_inputs or "stringData" in resource.secret_inputs
                       for key in resource.inputs["stringData"]), resource.urn  # fmt: skip
        else:
            assert "canary-" not in json.dumps(resource.inputs), resource.urn
        assert "canary-" not in resource.urn


def test_the_name_of_a_secret_depends_on_the_stack() -> None:
    config = released("Pulumi.prod.yaml")
    secrets = secrets_for(config)
    names = [
        next(r.object_name for r in run_program(config, secrets, stack=stack).all("Secret") if "app-" in r.object_name)
        for stack in ("prod", "staging")
    ]
    assert names[0] != names[1], "the same secrets of two stacks must not be recognised by a common name"


def test_passwords_reach_data_services_as_files(sandbox: Program) -> None:
    for name in ("postgres", "redis"):
        container = sandbox.one("StatefulSet", name).containers[-1]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        file = environment[f"{name.upper()}_PASSWORD_FILE"]
        assert any(file.startswith(mount["mountPath"]) for mount in container["volumeMounts"])
        assert "made-up" not in json.dumps(container)


def test_the_dsns_are_those_of_the_bundled_services(sandbox: Program) -> None:
    made = {r.object_name: r.inputs["stringData"] for r in sandbox.all("Secret")}
    password = made["postgres-password"]["password"]
    assert made["database"] == {"DATABASE_URL": f"postgresql://shop:{password}@postgres:5432/shop"}
    environment = {e["name"]: e["value"] for e in sandbox.one("StatefulSet", "postgres").containers[-1]["env"]}
    assert (environment["POSTGRES_USER"], environment["POSTGRES_DB"]) == ("shop", "shop")
    assert sandbox.one("Service", "postgres").inputs["spec"]["ports"][0]["port"] == 5432


def test_data_outlives_its_statefulset(sandbox: Program, prod: Program) -> None:
    for resource in sandbox.all("StatefulSet"):
        policy = resource.inputs["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert prod.one("Namespace").protect
    assert not sandbox.one("Namespace").protect


def test_the_namespace_enforces_restricted(sandbox: Program) -> None:
    labels = sandbox.one("Namespace").inputs["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def openings(program: Program, kind: str) -> set[tuple[str, str]]:
    """Name and pod selector of each policy that opens ingress or egress (`kind`)."""
    return {
        (policy.object_name, json.dumps(policy.inputs["spec"]["podSelector"], sort_keys=True))
        for policy in program.all("NetworkPolicy")
        if policy.inputs["spec"].get(kind)
    }


def test_networking_is_closed_but_for_what_is_needed(sandbox: Program, prod: Program) -> None:
    deny = sandbox.one("NetworkPolicy", "default-deny").inputs["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {name for name, _ in openings(sandbox, "egress")} == {
        "allow-dns", "allow-to-postgres", "allow-to-redis", "allow-clients-to-services-3000",
        "allow-backup-store", "allow-backup-to-postgres", "allow-rotation-to-postgres", "allow-rotation-to-redis",
        "allow-restore-test-to-backup-exporter",
    }  # fmt: skip
    assert {name for name, _ in openings(sandbox, "ingress")} == {
        "allow-into-postgres", "allow-into-redis", "allow-clients-into-services-3000", "allow-backup-into-postgres",
        "allow-rotation-into-postgres", "allow-rotation-into-redis", "allow-restore-test-into-backup-exporter",
    }  # fmt: skip
    assert {name for name, _ in openings(prod, "egress")} == {
        "allow-dns", "allow-outside", "allow-postgres", "allow-redis", "allow-clients-to-services-3000",
        "allow-backup-store", "allow-backup-postgres", "allow-rotation-postgres", "allow-rotation-redis",
        "allow-restore-test-to-backup-exporter",
    }  # fmt: skip
    for policy in (*sandbox.all("NetworkPolicy"), *prod.all("NetworkPolicy")):
        for rule in [*policy.inputs["spec"].get("egress", []), *policy.inputs["spec"].get("ingress", [])]:
            assert rule.get("ports"), f"{policy.object_name} opens every port"
            assert rule.get("to") or rule.get("from"), f"{policy.object_name} is open to every client"


def test_the_outside_does_not_include_private_addresses(prod: Program) -> None:
    block = prod.one("NetworkPolicy", "allow-outside").inputs["spec"]["egress"][0]["to"][0]["ipBlock"]
    assert "169.254.0.0/16" in block["except"]


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_the_ingress_has_tls(name: str) -> None:
    program = run_program(released(f"Pulumi.{name}.yaml"))
    spec = program.one("Ingress").inputs["spec"]
    assert spec["tls"][0]["hosts"] == [spec["rules"][0]["host"]]
    assert spec["tls"][0]["secretName"]
    assert program.outputs["url"].startswith("https://")


def test_an_evicted_pod_of_a_release_is_started_again(sandbox: Program) -> None:
    """R5: a drained node is no fault of the release."""
    jobs = sandbox.all("Job")
    assert {made.object_name.rsplit("-", 1)[0] for made in jobs} >= {"migrate", "rehearsal", "cache", "smoke"}
    ignored = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    for made in jobs:
        assert made.pod is not None
        rules = made.inputs["spec"].get("podFailurePolicy", {}).get("rules", [])
        restarts = made.pod["restartPolicy"] == "OnFailure" and made.inputs["spec"]["backoffLimit"] > 0
        assert ignored in rules or restarts, made.object_name
