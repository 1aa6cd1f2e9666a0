"""Bundled PostgreSQL and Redis: folders, memory, starts, growth, and images that people have."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.postgres_server import MOVE_TO_PGDATA
from settings import BundledPostgres, BundledRedis
from settings.base import EXAMPLE_DIGEST
from tests.support.monitored_config import PLAIN, watched
from tests.support.program import RELEASE, Program, Registered, run_program, stack_config

IMAGE = f"docker.io/library/postgres@{EXAMPLE_DIGEST}"
SIZE = "spec.volumeClaimTemplates[0].spec.resources.requests.storage"


def released(**data: Any) -> Program:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    for store, changes in data.items():
        config["runbook:data"][store] |= changes
    config["runbook:guards"] = {}
    return run_program(config)


def server(program: Program, name: str = "postgres") -> tuple[Registered, dict[str, Any]]:
    made = program.one("StatefulSet", name)
    (container,) = (made.pod or {})["containers"]
    return made, dict(container)


def sized(memory: str, **more: Any) -> BundledPostgres:
    amounts = {"cpu": "1", "memory": memory, "ephemeralStorage": "64Mi"}
    resources = {"requests": amounts, "limits": amounts}
    given = {"mode": "bundled", "image": IMAGE, "storage": "1Gi", "resources": resources, **more}
    return BundledPostgres.model_validate(given)


# -- folders -------------------------------------------------------------------------------------------


def test_the_database_is_in_a_folder_of_its_volume(sandbox: Program) -> None:
    """The root of a new file system has `lost+found`, and initdb refuses a folder that is not empty."""
    _, container = server(sandbox)
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    (volume,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "data"]
    assert environment["PGDATA"] == f"{volume}/pgdata"


def test_a_database_in_the_root_of_the_volume_is_moved_and_not_made_anew(sandbox: Program, tmp_path: Path) -> None:
    made, _ = server(sandbox)
    (before,) = (made.pod or {})["initContainers"]
    assert before["command"] == ["sh", "-c", MOVE_TO_PGDATA]
    assert "data" in [mount["name"] for mount in before["volumeMounts"]]

    def prepare() -> list[str]:
        subprocess.run(["sh", "-c", MOVE_TO_PGDATA, "prepare", tmp_path], check=True)
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    assert prepare() == []  # an empty volume
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "base").mkdir()
    for file in ("PG_VERSION", "base/1", ".hidden"):
        (tmp_path / file).write_text("17")
    moved = ["lost+found", "pgdata", *(f"pgdata/{name}" for name in (".hidden", "PG_VERSION", "base", "base/1"))]
    assert prepare() == sorted(moved)
    assert (tmp_path / "pgdata").stat().st_mode & 0o777 == 0o700
    assert prepare() == sorted(moved)
    # A run that was killed: the version is still in the root.
    (tmp_path / "pgdata" / "PG_VERSION").rename(tmp_path / "PG_VERSION")
    (tmp_path / "pgdata" / "base").rename(tmp_path / "base")
    assert prepare() == sorted(moved)


def test_no_client_connects_to_the_server_that_initialises_the_database(sandbox: Program) -> None:
    """Official images start it at the socket only: a probe there would call it ready."""
    _, container = server(sandbox)
    for kind in ("startupProbe", "readinessProbe"):
        assert "--host=127.0.0.1" in container[kind]["exec"]["command"]


# -- memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "buffers", "shm"),
    [("512Mi", "128MB", 128 * 2**20), ("8Gi", "2048MB", 2 * 2**30), ("48Mi", "16MB", 12 * 2**20)],
)
def test_memory_follows_from_the_limit(memory: str, buffers: str, shm: int) -> None:
    wanted = sized(memory)
    assert wanted.server_arguments[:2] == ("-c", f"shared_buffers={buffers}")
    assert wanted.shared_memory_bytes == shm


def test_parameters_of_the_settings_take_precedence() -> None:
    wanted = sized("1Gi", parameters={"shared_buffers": "300MB", "max_connections": 200, "jit": False})
    words = wanted.server_arguments
    assert words.count("-c") == len(words) / 2
    assert {"shared_buffers=300MB", "max_connections=200", "jit=off", "effective_cache_size=512MB"} <= set(words)
    assert "shared_buffers=256MB" not in words


@pytest.mark.parametrize("name", ["listen_addresses", "data_directory", "port", "x; y"])
def test_parameters_of_the_program_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"the program sets this parameter|pattern"):
        sized("1Gi", parameters={name: "1"})


def test_the_server_and_the_one_of_a_restore_test_have_shared_memory(sandbox: Program) -> None:
    """The runtime's own /dev/shm has 64 MiB: a parallel index build of a large table fails."""
    cronjob = sandbox.one("CronJob", "restore-test").pod or {}
    test_server = next(one for one in cronjob["initContainers"] if one["name"] == "postgres")
    made, container = server(sandbox)
    for pod, one in ((made.pod or {}, container), (cronjob, test_server)):
        assert "shared_buffers=128MB" in one["args"]
        (name,) = [mount["name"] for mount in one["volumeMounts"] if mount["mountPath"] == "/dev/shm"]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == name]
        assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": str(128 * 2**20)}


# -- starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_recovery_may_take_an_hour_or_what_the_settings_say(sandbox: Program, name: str) -> None:
    for program, seconds in ((sandbox, 3600), (released(**{name: {"startSeconds": 7201}}), 7201)):
        probe = server(program, name)[1]["startupProbe"]
        assert seconds <= probe["periodSeconds"] * probe["failureThreshold"] < seconds + probe["periodSeconds"]


def test_redis_starts_in_any_image(sandbox: Program) -> None:
    """Neither the entrypoint nor a script of an image is used: official ones have others."""
    _, container = server(sandbox, "redis")
    assert container["command"][:2] == ["sh", "-c"]
    assert "exec redis-server -" in container["command"][2]
    assert container["command"][3:] == ["redis", "--dir", "/data"]
    assert container["args"][0] == "--maxmemory"
    for kind in ("startupProbe", "readinessProbe"):
        assert container[kind]["exec"]["command"][:2] == ["sh", "-c"]


def test_images_with_another_user() -> None:
    made, _ = server(released(postgres={"uid": 70}))
    security = (made.pod or {})["securityContext"]
    assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {70}


# -- growth --------------------------------------------------------------------------------------------


def test_a_larger_volume_changes_the_claim_and_replaces_no_statefulset() -> None:
    program = run_program(watched(monitoring=PLAIN))
    servers = program.all("StatefulSet")
    assert {made.object_name for made in servers} == {"postgres", "redis", "prometheus", "alertmanager"}
    for made in servers:
        claims = made.inputs["spec"]["volumeClaimTemplates"]
        assert made.ignored_changes == {SIZE}, made.object_name
        patch = program.one("PersistentVolumeClaimPatch", f"{claims[0]['metadata']['name']}-{made.object_name}-0")
        assert patch.inputs["spec"]["resources"]["requests"] == claims[0]["spec"]["resources"]["requests"]
        assert program.waits_for(patch, made)
        # A claim without its size is none: the patch cannot be taken back.
        assert patch.retained
    grown = released(postgres={"storage": "5Gi"}).one("PersistentVolumeClaimPatch", "data-postgres-0")
    assert grown.inputs["spec"]["resources"]["requests"] == {"storage": "5Gi"}


def test_volumes_have_the_storage_class_of_the_settings() -> None:
    """A cluster without a default storage class (EKS) leaves claims without one pending."""
    server = {"storageClass": "gp3"}
    config = watched(
        monitoring={**PLAIN, "prometheus": {**PLAIN.get("prometheus", {}), **server}, "alertmanager": server}
    )
    for store in ("postgres", "redis"):
        config["runbook:data"][store] |= server
    config["runbook:data"]["volumes"] = {"uploads": {"size": "1Gi", **server}}
    config["runbook:backup"]["scratchStorageClass"] = "gp3"
    program = run_program(config)
    claims: list[Any] = [made.inputs["spec"] for made in program.all("PersistentVolumeClaim")]
    for made in program.objects:
        if made.kind == "StatefulSet":
            claims += [template["spec"] for template in made.inputs["spec"]["volumeClaimTemplates"]]
        for volume in (made.pod or {}).get("volumes", []):
            if "ephemeral" in volume:
                claims.append(volume["ephemeral"]["volumeClaimTemplate"]["spec"])
    assert len(claims) >= 7
    assert [claim.get("storageClassName") for claim in claims] == ["gp3"] * len(claims)


def test_redis_keeps_memory_for_its_buffers() -> None:
    wanted = BundledRedis.model_validate({"mode": "bundled", "image": IMAGE, "storage": "1Gi"})
    assert wanted.server_arguments[:2] == ("--maxmemory", str(int(256 * 2**20 * 0.6)))
