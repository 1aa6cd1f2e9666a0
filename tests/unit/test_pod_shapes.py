"""Pods that differ from the defaults: user, writable folders, volumes, placement, registry (X3, X4)."""

from __future__ import annotations

from typing import Any

import pytest

from settings import SettingsError, StackFile, parse
from settings.go_live import TOOLBOX as GO_LIVE
from settings.operations import TOOLBOX as OPERATIONS
from tests.support.program import RELEASE, Program, Registered, committed, run_program

SHAPE = {
    "uid": 1000,
    "gid": 1001,
    "fsGroup": 1002,
    "writablePaths": ["/app/.cache", "/app/tmp"],
    "volumes": [{"name": "uploads", "path": "/app/uploads"}, {"name": "media", "path": "/app/media", "readOnly": True}],
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/shop"},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [
        {"key": "dedicated", "value": "shop", "effect": "NoSchedule"},
        {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
    ],
    "spread": "required",
    "priorityClass": "shop-high",
    "labels": {"team": "web"},
    "annotations": {"sidecar.istio.io/inject": "false"},
}
VOLUMES = {"uploads": {"size": "20Gi", "storageClass": "efs"}, "media": {"size": "5Gi"}}


def shaped_config(
    shape: dict[str, Any] | None = None,
    file: str = "Pulumi.prod.yaml",
    volumes: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    config = committed(file, release=RELEASE, **changes)
    config["runbook:application"]["services"][0]["pod"] = SHAPE if shape is None else shape
    config["runbook:data"] = {**config["runbook:data"], "volumes": VOLUMES if volumes is None else volumes}
    return config


def refusal(config: dict[str, Any]) -> str:
    values = {key: value for key, value in config.items() if key.startswith(("runbook:", "kubernetes:"))}
    with pytest.raises(SettingsError) as raised:
        parse(StackFile("Pulumi.prod.yaml", values, frozenset()))
    return str(raised.value)


@pytest.fixture(scope="module")
def shaped() -> Program:
    return run_program(shaped_config())


def of_the_release(program: Program) -> dict[str, Registered]:
    jobs = {made.object_name.rsplit("-", 1)[0]: made for made in program.all("Job")}
    wanted = {name: jobs[name] for name in ("migrate", "rehearsal", "cache", "smoke")}
    return {"backend": program.one("Deployment", "backend"), **wanted}


def test_the_service_and_the_jobs_of_its_release_have_the_same_pods(shaped: Program) -> None:
    for where, made in of_the_release(shaped).items():
        assert made.pod is not None
        security = made.pod["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (1000, 1001, 1002), where
        assert security["runAsNonRoot"] is True, where
        assert made.pod["nodeSelector"] == {"kubernetes.io/arch": "arm64"}, where
        assert made.pod["tolerations"] == [
            {"key": "dedicated", "operator": "Equal", "value": "shop", "effect": "NoSchedule"},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ], where
        assert made.pod["priorityClassName"] == "shop-high", where
        assert made.template is not None
        assert made.template["metadata"]["labels"]["team"] == "web", where
        assert made.template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false", where
        volumes = {volume["name"]: volume for volume in made.pod["volumes"]}
        assert volumes["volume-0"]["persistentVolumeClaim"] == {"claimName": "uploads", "readOnly": False}, where
        for container in [each for each in made.containers if each["name"] not in ("migration-guard", "reach")]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, where
            at = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert set(at) == {"/tmp", "/app/.cache", "/app/tmp", "/app/uploads", "/app/media"}, where
            assert volumes[at["/app/.cache"]["name"]]["emptyDir"] == {}, where
            assert at["/app/media"]["readOnly"] is True, where
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes), where


def test_what_an_operator_starts_from_the_release_has_the_same_pods() -> None:
    """Templates of the Jobs of `runbook go-live` and of the quick reference."""
    program = run_program(shaped_config(checklist={}))
    for name in (GO_LIVE, OPERATIONS):
        made = program.one("CronJob", name)
        assert made.pod is not None
        security = made.pod["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (1000, 1001, 1002), name
        assert {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in made.pod["volumes"]} >= {
            "uploads", "media",
        }, name  # fmt: skip
        command = next(each for each in made.containers if each["name"] == "command")
        at = {mount["mountPath"] for mount in command["volumeMounts"]}
        assert at == {"/tmp", "/app/.cache", "/app/tmp", "/app/uploads", "/app/media"}, name
        assert made.inputs["metadata"]["annotations"]["kube-score/ignore"], name


def test_spreading_and_affinity_are_those_of_the_settings(shaped: Program) -> None:
    pod = shaped.one("Deployment", "backend").pod
    assert pod is not None
    assert [one["whenUnsatisfiable"] for one in pod["topologySpreadConstraints"]] == ["DoNotSchedule"] * 2
    assert "podAntiAffinity" in pod["affinity"]
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    own = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    moved = run_program(shaped_config({"affinity": own}, volumes={})).one("Deployment", "backend").pod
    assert moved is not None
    assert moved["affinity"] == own
    assert [one["whenUnsatisfiable"] for one in moved["topologySpreadConstraints"]] == ["ScheduleAnyway"] * 2


def test_accounts_of_the_release_have_the_cloud_identity_and_no_others(shaped: Program) -> None:
    bound = {
        made.object_name
        for made in shaped.all("ServiceAccount")
        if "eks.amazonaws.com/role-arn" in made.inputs["metadata"]["annotations"]
    }
    assert bound == {"backend", "migrate", "rehearsal", "cache", "smoke", "maintenance-tasks"}


def test_a_restore_test_runs_as_the_images_user_and_touches_no_volume(shaped: Program) -> None:
    pod = shaped.one("CronJob", "restore-test").pod
    assert pod is not None
    containers = {one["name"]: one for one in [*pod["initContainers"], *pod["containers"]]}
    for name in ("backend", "migrate", "smoke"):
        security = containers[name]["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"]) == (1000, 1001), name
        assert "/app/uploads" in [mount["mountPath"] for mount in containers[name]["volumeMounts"]], name
    assert "runAsUser" not in containers["begin"]["securityContext"]
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    names = [volume["name"] for volume in pod["volumes"]]
    assert len(set(names)) == len(names)
    mounted = {mount["name"] for one in containers.values() for mount in one["volumeMounts"]}
    assert mounted <= set(names)


def test_volumes_are_claims_that_are_protected(shaped: Program) -> None:
    claims = {made.object_name: made for made in shaped.all("PersistentVolumeClaim")}
    assert set(claims) == {"uploads", "media"}
    assert claims["uploads"].protect
    assert claims["uploads"].inputs["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "efs",
        "resources": {"requests": {"storage": "20Gi"}},
    }
    assert shaped.waits_for(shaped.one("Deployment", "backend"), claims["uploads"])


def test_a_private_registry_is_known_to_every_account() -> None:
    program = run_program(committed("Pulumi.prod.yaml", release=RELEASE, registry={"pullSecrets": ["registry-login"]}))
    accounts = program.all("ServiceAccount")
    assert len(accounts) > 8
    used = {(resource.pod or {})["serviceAccountName"] for resource in program.objects if resource.pod}
    assert used <= {account.object_name for account in accounts}
    for account in accounts:
        assert account.inputs["imagePullSecrets"] == [{"name": "registry-login"}], account.object_name


def test_without_settings_pods_are_what_they_were(prod: Program) -> None:
    for where, made in of_the_release(prod).items():
        assert made.pod is not None
        security = made.pod["securityContext"]
        assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}, where
        assert not {"nodeSelector", "tolerations", "priorityClassName"} & set(made.pod), where
    assert all("imagePullSecrets" not in account.inputs for account in prod.all("ServiceAccount"))


def test_backups_and_restores_have_a_priority_class_of_their_own() -> None:
    config = committed("Pulumi.prod.yaml", release=RELEASE)
    config["runbook:backup"]["priorityClass"] = "batch-low"
    program = run_program(config)
    for name in ("backup", "restore", "restore-test"):
        pod = program.one("CronJob", name).pod
        assert pod is not None
        assert pod["priorityClassName"] == "batch-low", name


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"uid": 0}, "root is refused"),
        ({"gid": 0}, "root is refused"),
        ({"fsGroup": 0}, "root is refused"),
        ({"writablePaths": ["/tmp"]}, "/tmp is already mounted by the program"),
        ({"writablePaths": ["/"]}, "pattern"),
        ({"writablePaths": ["/app/", "relative"]}, "pattern"),
        ({"writablePaths": ["/app/c", "/app/c"]}, "/app/c is already mounted by writablePaths"),
        ({"writablePaths": ["/app/uploads"], "volumes": [{"name": "uploads", "path": "/app/uploads"}]}, "already"),
        ({"volumes": [{"name": "uploads", "path": "/a"}, {"name": "uploads", "path": "/b"}]}, "stands here twice"),
        ({"volumes": [{"name": "pictures", "path": "/a"}]}, "no such volume; runbook:data.volumes has: media, uploads"),
        ({"labels": {"app.kubernetes.io/component": "postgres"}}, "the program sets the labels"),
        ({"annotations": {"runbook/output": "x"}}, "the program sets this annotation"),
        ({"tolerations": [{"value": "x"}]}, "only operator Exists"),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}, "takes no value"),
        ({"privileged": True}, "unknown key"),
    ],
)
def test_what_no_pod_may_have_is_refused(shape: dict[str, Any], words: str) -> None:
    assert words in refusal(shaped_config(shape))


def test_a_volume_that_one_node_alone_can_mount_is_refused_in_production() -> None:
    shape = {"volumes": [{"name": "uploads", "path": "/a"}]}
    once = {"uploads": {"size": "1Gi", "accessMode": "ReadWriteOnce"}}
    assert "uploads is ReadWriteOnce" in refusal(shaped_config(shape, volumes=once))
    assert run_program(shaped_config(shape, "Pulumi.sandbox.yaml", once)).all("PersistentVolumeClaim")
    alone = {"uploads": {"size": "1Gi", "accessMode": "ReadWriteOncePod"}}
    assert "ReadWriteOncePod" in refusal(shaped_config(shape, "Pulumi.sandbox.yaml", alone))


def test_a_claim_of_the_program_is_no_name_for_a_volume_and_the_quota_counts_it() -> None:
    assert "rename it" in refusal(shaped_config({}, volumes={"backups": {"size": "1Gi"}}))
    assert "requests.storage" not in refusal(shaped_config({}, volumes={"uploads": {"size": "900Gi"}}))
    assert "the volumes need" in refusal(shaped_config({}, volumes={"uploads": {"size": "900Gi"}}))


def _probed(
    startup: dict[str, Any], readiness: dict[str, Any], liveness: dict[str, Any], **service: Any
) -> dict[str, Any]:
    config = committed("Pulumi.sandbox.yaml", release=RELEASE)
    [backend] = config["runbook:application"]["services"]
    probes = {"startup": startup, "readiness": readiness, "liveness": liveness}
    config["runbook:application"] = {
        **config["runbook:application"],
        "services": [{**backend, "probes": probes, **service}],
    }
    return config


def test_a_service_is_probed_by_a_connection_or_by_grpc() -> None:
    config = _probed({"tcp": True, "failureThreshold": 9}, {"grpc": "shop.Catalogue"}, {"grpc": ""})
    [container] = run_program(config).one("Deployment", "backend").containers
    assert container["startupProbe"]["tcpSocket"] == {"port": 3000}
    assert container["startupProbe"]["failureThreshold"] == 9
    assert container["readinessProbe"]["grpc"] == {"port": 3000, "service": "shop.Catalogue"}
    assert container["livenessProbe"]["grpc"] == {"port": 3000, "service": ""}
    [same] = run_program(_probed({"tcp": True}, {"tcp": True}, {"tcp": True})).one("Deployment", "backend").containers
    assert same["livenessProbe"]["tcpSocket"] == same["readinessProbe"]["tcpSocket"] == {"port": 3000}


@pytest.mark.parametrize(
    ("liveness", "words"),
    [
        ({"grpc": "all"}, "the same path as readiness"),
        ({"tcp": True, "path": "/live"}, "one of path, command, tcp and grpc"),
        ({}, "one of path, command, tcp and grpc"),
    ],
)
def test_probes_that_ask_twice_or_nothing_are_refused(liveness: dict[str, Any], words: str) -> None:
    assert words in refusal(_probed({"tcp": True}, {"grpc": "all"}, liveness))


def test_a_worker_has_no_port_to_connect_to() -> None:
    config = _probed({"command": "true"}, {"grpc": ""}, {"tcp": True}, name="worker", port=None, paths=[])
    found = refusal(config)
    assert "probes.readiness.grpc" in found
    assert "probes.liveness.tcp" in found


def test_dollars_of_commands_and_variables_stay_as_they_are_written() -> None:
    """Kubernetes takes $$ for an escaped $, in each word of a command and in each variable."""
    config = shaped_config({})
    service = config["runbook:application"]["services"][0]
    service["command"] = "sh -c 'echo $$ $1 $(HOME)'"
    service["rehearsalEnv"] = {"SALT": "a$$b"}
    service["initContainers"] = [{"name": "fetch", "command": "echo $$", "args": "$$", "env": {"SALT": "a$$b"}}]
    program = run_program(config)
    spec = program.one("Deployment", "backend").pod or {}
    assert spec["containers"][0]["command"] == ["sh", "-c", "echo $$$$ $1 $(HOME)"]
    (fetch,) = (one for one in spec["initContainers"] if one["name"] == "fetch")
    assert fetch["command"] == ["echo", "$$$$"]
    assert fetch["args"] == ["$$$$"]
    assert {"name": "SALT", "value": "a$$$$b"} in fetch["env"]
