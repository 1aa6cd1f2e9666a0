"""Backups, restore tests and restores (runbook-de-production §2, §5.3, §6)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config

from sandbox import cluster
from sandbox.traffic import Traffic
from tests.cluster.test_release import serving
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

BACKUPS = True
REFUSED, FAILED = 2, 3
EVERY_MINUTE = "* * * * *"
LATER = """
INSERT INTO products (slug, name, description, price_cents, stock)
VALUES ('later', 'made after the backup', 'gone after the restore', 100, 1)
"""


def backups(stack: Stack) -> list[dict[str, Any]]:
    return stack.runbook("backup", "list", "--json").check().json()


def back_up(stack: Stack) -> str:
    return stack.runbook("backup", "now", "--json").check().json()["id"]


def products(stack: Stack, database: str = "shop") -> set[str]:
    return set(stack.sql("SELECT name FROM products", database).splitlines())


@pytest.fixture(scope="module")
def bucket() -> Any:
    """The sandbox's bucket of backups, with the sandbox's own credentials."""
    here = cluster.current()
    assert here is not None
    assert here.s3 is not None
    server, s3 = here.s3, cast(Any, boto3.resource)
    return s3(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    ).Bucket("backups")


def test_nothing_is_migrated_before_a_backup_was_proven(stack: Stack, images: dict[str, str]) -> None:
    before = stack.file.read_bytes()
    refused = stack.runbook("deploy", images["shop:v2"], "--yes")
    assert refused.code == REFUSED, refused.text
    assert "runbook backup verify" in refused.text
    assert stack.file.read_bytes() == before
    assert serving(stack) == stack.release["git"]

    # Plain `pulumi up` with the release written by hand is held by the program's own gate.
    v2 = before.decode().replace(images["shop:v1"], images["shop:v2"])
    stack.file.write_text(v2)
    stack.edit(lambda config: config["runbook:release"].update(schema={"min": 2, "max": 2, "level": 2}, revision=2))
    by_hand = stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview")
    stack.file.write_bytes(before)
    assert by_hand.code != 0
    assert "no restore test" in by_hand.text or "not_proven" in by_hand.text, by_hand.text
    assert stack.sql("SELECT count(*) FROM pgmigrations") == "1"


def test_scheduled_backups_and_restore_tests_run_automatically(stack: Stack) -> None:
    def every_minute(config: dict[str, Any]) -> None:
        config["runbook:backup"]["schedule"] = EVERY_MINUTE
        config["runbook:backup"]["restoreTest"]["schedule"] = EVERY_MINUTE

    before = stack.file.read_bytes()
    stack.edit(every_minute)
    stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview").check()

    def proven() -> list[dict[str, Any]]:
        return [item for item in backups(stack) if item["kind"] == "scheduled" and item["proven_at"]]

    (found, *_) = eventually(proven, 300)
    stack.file.write_bytes(before)
    stack.run("pulumi", "up", "--stack", stack.name, "--yes", "--non-interactive", "--skip-preview").check()
    assert found["last_test"]["result"] == "passed"
    assert found["last_test"]["rto_seconds"] > 0
    assert found["schema_level"] == 1
    assert found["release"]["revision"] == 1
    shown = stack.runbook("backup", "list").check().out
    assert found["id"] in shown
    assert "PROVEN" in shown


def test_a_flipped_byte_is_caught_and_named(stack: Stack, bucket: Any) -> None:
    backup = back_up(stack)
    (dump,) = [item for item in bucket.objects.all() if item.key.endswith(f"{backup}.dump")]
    content = bytearray(dump.get()["Body"].read())
    content[len(content) // 2] ^= 1
    dump.put(Body=bytes(content))

    broken = stack.runbook("backup", "verify", backup)
    assert broken.code == FAILED, broken.text
    assert f"{backup}.dump" in broken.text
    listed = next(item for item in backups(stack) if item["id"] == backup)
    assert listed["last_test"]["result"] == "failed"
    assert f"{backup}.dump" in listed["last_test"]["reason"]
    assert listed["proven_at"] is None


def test_a_deleted_row_is_restored_beside_the_live_database(stack: Stack) -> None:
    lost = sorted(products(stack))[0]
    backup = back_up(stack)
    stack.sql(f"DELETE FROM products WHERE name = '{lost}'")  # noqa: S608 (one of the shop's own names)
    made = stack.runbook("restore", "start", backup, "--into", "shop_before", "--json").check().json()
    assert made["database"] == "shop_before"
    assert lost in products(stack, "shop_before")
    assert lost not in products(stack), "the live database was not touched"

    again = stack.runbook("restore", "start", backup, "--into", "shop_before")
    assert again.code == REFUSED, again.text
    assert "shop_before" in again.text
    stack.sql("DROP DATABASE shop_before", "postgres")


@pytest.fixture(scope="module")
def point(stack: Stack) -> tuple[str, set[str]]:
    """A backup, and the products in it."""
    return back_up(stack), products(stack)


def smoke_job(stack: Stack) -> str:
    (name,) = (job for job in stack.kubectl("get", "jobs", "--output=name").split() if "/smoke-" in job)
    return name


def test_in_place_under_traffic(stack: Stack, point: tuple[str, set[str]], tmp_path: Path) -> None:
    """Another operator, with a checkout of his own, is refused meanwhile."""
    backup, kept = point
    stack.sql(LATER)
    other = replace(stack, file=Path(shutil.copy(stack.file, tmp_path)))
    with Traffic(stack.url) as traffic:
        restore = stack.start("runbook", "restore", "start", backup, "--in-place", "--yes", "--json")
        eventually(lambda: other.runbook("status", "--json").json()["command"], 60)
        refused = other.runbook("security", "lockdown", "--reason", "an attack", "--yes")
        out, err = restore.communicate(timeout=600)
        last = time.monotonic()
        eventually(lambda: any(not answer.failed for answer in traffic.answers if answer.at > last), 30)
    assert restore.returncode == 0, out + err
    assert refused.code == REFUSED, refused.text
    assert f"in use: `restore {backup}` by " in refused.text
    assert other.file.read_text() != stack.file.read_text()
    assert "runbook:lockdown" not in other.config, "nothing was changed"
    done = json.loads(out)
    assert done["backup"] == backup
    assert products(stack) == kept
    assert serving(stack) == stack.release["git"]
    failed = {answer.status for answer in traffic.failures}
    assert failed == {503}, "during the restore customers get the maintenance page and nothing else"
    assert not any(answer.failed for answer in traffic.answers if answer.at > last)
    assert stack.runbook("restore", "status", "--json").check().json()["phase"] == "idle"
    assert any(item["kind"] == "safety" for item in backups(stack))
    assert stack.changes() == {}
    assert stack.history()[0]["action"] == "restore"


def test_killed_in_place_then_the_same_command_again(stack: Stack, point: tuple[str, set[str]]) -> None:
    """The same backup for the second time."""
    backup, kept = point
    checked = smoke_job(stack)
    stack.sql(LATER)
    first = stack.start("runbook", "restore", "start", backup, "--in-place", "--yes")
    eventually(lambda: "restore-prepare" in stack.kubectl("get", "jobs", "--output=name"), 120)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    stack.runbook("restore", "start", backup, "--in-place", "--yes").check()
    assert products(stack) == kept
    assert smoke_job(stack) != checked, "each restore proves the release again before the old database goes"
    assert stack.runbook("restore", "status", "--json").check().json()["phase"] == "idle"
    assert "runbook:maintenance" not in stack.config
    assert serving(stack) == stack.release["git"]
    assert stack.changes() == {}


def test_a_contract_migration_is_rolled_back_with_its_data(stack: Stack, images: dict[str, str]) -> None:
    stack.runbook("backup", "verify").check()
    stack.runbook("deploy", images["shop:v2"], "--yes").check()
    kept = products(stack)
    stack.runbook("deploy", images["shop:v3"], "--yes", "--allow-downtime").check()
    (before_v3,) = [item for item in backups(stack) if item["kind"] == "pre-release" and item["schema_level"] == 2]

    plain = stack.runbook("rollback", "--yes")
    assert plain.code == REFUSED
    assert "--restore-database" in plain.text

    done = stack.runbook("rollback", "--yes", "--restore-database", "--json").check().json()
    assert stack.release["image"] == images["shop:v2"]
    assert stack.release["restoredFrom"] == before_v3["id"]
    assert products(stack) == kept
    assert serving(stack) == stack.release["git"]
    assert stack.runbook("status", "--json").check().json()["schema"]["database"] == 2
    assert done["target"] == 2
    assert stack.changes() == {}


def test_the_exporter_reports_what_the_store_has(stack: Stack) -> None:
    exporter = json.loads(stack.kubectl("get", "pods", "-l", "app.kubernetes.io/name=backup-exporter", "-o", "json"))
    (pod,) = exporter["items"]
    address = f"http://127.0.0.1:{pod['spec']['containers'][0]['ports'][0]['containerPort']}/metrics"
    ask = f"import urllib.request; print(urllib.request.urlopen('{address}').read().decode())"
    printed = stack.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", ask)
    values = dict(line.rsplit(" ", 1) for line in printed.splitlines() if line and not line.startswith("#"))
    assert float(values["runbook_backup_last_proven_timestamp_seconds"]) > time.time() - 3600
