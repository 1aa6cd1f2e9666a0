"""A stack of a database alone: what its CronJobs run, with the variables that its pods get, backs up an external
PostgreSQL 16 and proves the backup."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.postgres_majors import HAS_CLIENTS, clients, postgres_of
from tests.support.program import Program, run_program
from tests.support.restore_world import Done, new_shop, run
from tests.unit.test_optional_chapters import DATABASE_ONLY


def variables(program: Program, container: Mapping[str, Any]) -> dict[str, str]:
    """What a container's pod gives it."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= program.one("ConfigMap", source["configMapRef"]["name"]).inputs["data"]
        else:
            found |= program.one("Secret", source["secretRef"]["name"]).inputs["stringData"]
    for each in container.get("env", []):
        if "value" in each:
            found[each["name"]] = each["value"]
        elif "secretKeyRef" in each["valueFrom"]:
            secret = each["valueFrom"]["secretKeyRef"]
            found[each["name"]] = program.one("Secret", secret["name"]).inputs["stringData"][secret["key"]]
    return found


@pytest.mark.skipif(not HAS_CLIENTS, reason="there are no programs of version 17 for this machine")
def test_a_database_alone_is_backed_up_and_proven(tmp_path: Path) -> None:
    for folder in ("store", "scratch"):
        (tmp_path / folder).mkdir()
    with postgres_of(16) as live, postgres_of(16) as temporary, live.database() as name:
        new_shop(live, name, tmp_path / "store", tmp_path / "scratch")
        program = run_program(DATABASE_ONLY, {"DATABASE_URL": live.url(name)})
        test = program.one("CronJob", "restore-test")
        password = program.one("Secret", "restore-test").inputs["stringData"]["password"]
        temporary.execute(f"CREATE ROLE restore_test SUPERUSER LOGIN PASSWORD '{password}'")
        temporary.execute("CREATE DATABASE restore_test OWNER restore_test")
        here = {
            "/backups": str(tmp_path / "store"),
            "/scratch": str(tmp_path / "scratch"),
            "127.0.0.1:5432": f"127.0.0.1:{temporary.port}",
        }

        def task(container: Mapping[str, Any]) -> Done:
            given = variables(program, container)
            for there, place in here.items():
                given = {key: value.replace(there, place) for key, value in given.items()}
            given["PATH"] = f"{clients()}:{os.defpath}"
            done = run(given, *container["command"][3:])
            assert done.status == 0, f"{container['name']}:\n{done.out}{done.err}"
            return done

        for container in program.one("CronJob", "backup").containers:
            task(container)
        steps = {container["name"]: container for container in test.containers if container["name"] != "postgres"}
        assert list(steps) == ["begin", "conclude"]
        task(steps["begin"])
        with psycopg.connect(temporary.url("restore_test")) as connection:
            assert connection.execute("SELECT count(*) FROM orders").fetchone() == (3,)
        proof = task(steps["conclude"]).json
        assert proof["result"] == "passed", proof
        listed = run(
            {**variables(program, steps["conclude"]), "BACKUP_STORE": f"file://{tmp_path / 'store'}"}, "backup", "list"
        ).json
        assert listed[0]["proven_at"], listed
