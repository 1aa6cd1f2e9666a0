"""`backup cleanup`, `list` and `gate` on a real S3 server, with restore tests on record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.backup import catalog
from tasks.backup.create import create
from tasks.backup.manifest import Manifest, manifest_key, new_id
from tasks.environment import Environment
from tasks.restore import evidence
from tasks.store import Store, open_store
from tests.support.servers import S3, Postgres
from tests.support.task_processes import task

CLEANUP = ("backup", "cleanup")
GATE = ("backup", "gate", "--within-hours", "24")


@pytest.fixture
def settings(postgres: Postgres, s3: S3, database: str, bucket: str, tmp_path: Path) -> dict[str, str]:
    return {**s3.environment(bucket), "DATABASE_URL": postgres.url(database), "SCRATCH": str(tmp_path)}


@pytest.fixture
def store(settings: dict[str, str]) -> Store:
    return open_store(Environment(settings))


@pytest.fixture
def aged(settings: dict[str, str], store: Store) -> Callable[[float], str]:
    """Makes a backup of the real one's content that is so many days old; its id."""
    model = create(Environment(settings), "scheduled")
    (dump,) = model.dump
    content = store.get(model.key(dump))
    catalog.remove(store, model.id)

    def make(days: float) -> str:
        at = datetime.now(UTC) - timedelta(days=days)
        id_ = new_id("scheduled", at)
        manifest = replace(model, id=id_, created_at=at, files=(replace(dump, name=f"{id_}.dump"),))
        store.put(manifest.key(manifest.files[0]), content)
        store.put(manifest_key(id_), manifest.to_bytes())
        return id_

    return make


def restore_test(store: Store, backup: str, hours_ago: float, result: str = "passed", **more: Any) -> int:
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    record = {"backup": backup, "result": result, "at": at.isoformat(), "reason": None}
    return evidence.append(store, record | {"rto_seconds": 12.5, "rpo_seconds": 300.0} | more)["sequence"]


def test_backups_of_one_second_are_in_the_order_of_their_snapshots(store: Store, aged: Callable[[float], str]) -> None:
    """Their ids are in that of their kinds."""
    older, second = catalog.find(store, aged(1)), datetime(2026, 11, 1, 2, tzinfo=UTC)
    catalog.remove(store, older.id)
    seconds = {
        "20261101T020000Z-manual-0000": 0.9,
        "20261101T020000Z-scheduled-ffff": 0.1,
        "20261031T020000Z-manual-ffff": -86_400,
    }
    for id_, after in seconds.items():
        at = second + timedelta(seconds=after)
        store.put(manifest_key(id_), replace(older, id=id_, created_at=at).to_bytes())
    wanted = list(seconds)
    assert [manifest.id for manifest in catalog.newest_first(store)] == wanted
    assert [manifest.id for manifest in catalog.manifests(store)] == wanted


def test_cleanup_keeps_what_it_must(settings: dict[str, str], store: Store, aged: Callable[[float], str]) -> None:
    ids = [aged(days) for days in (0.1, 2, 8, 9, 10, 11)]
    restore_test(store, ids[4], hours_ago=30)
    restore_test(store, ids[5], hours_ago=300)
    rules = {"BACKUP_RETENTION_DAYS": "7", "BACKUP_KEEP_LEAST": "1", "BACKUP_KEEP_IDS": f"{ids[3]} gone-already"}

    dry = task(settings | rules, *CLEANUP, "--dry-run")
    assert dry.result["deleted"] == [ids[2], ids[5]]
    assert catalog.finished(store) == sorted(ids), "a dry run deletes nothing"

    done = task(settings | rules, *CLEANUP)
    assert done.result["deleted"] == dry.result["deleted"]
    why = {kept["id"]: kept["why"] for kept in done.result["kept"]}
    assert why == {
        ids[0]: ["within 7 days", "one of the newest 1"],
        ids[1]: ["within 7 days"],
        ids[3]: ["needed by a rollback"],
        ids[4]: ["newest proven"],
    }
    assert catalog.finished(store) == sorted(why)
    assert not [entry for entry in store.entries("backups/") if ids[2] in entry.key], "its files are gone as well"
    assert task(settings | rules, *CLEANUP).result["deleted"] == [], "a second time finds nothing"


def test_never_below_the_least(settings: dict[str, str], store: Store, aged: Callable[[float], str]) -> None:
    ids = [aged(days) for days in (100, 200, 300, 400)]
    done = task(settings | {"BACKUP_RETENTION_DAYS": "1"}, *CLEANUP)
    assert done.result["deleted"] == ids[3:], "three stay unless the settings say otherwise"
    assert (
        task(settings | {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}, *CLEANUP).result["deleted"]
        == ids[1:3]
    )
    assert catalog.finished(store) == ids[:1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKUP_RETENTION_DAYS", "0"),
        ("BACKUP_RETENTION_DAYS", "-1"),
        ("BACKUP_RETENTION_DAYS", ""),
        ("BACKUP_RETENTION_DAYS", "a week"),
        ("BACKUP_KEEP_LEAST", "0"),
        ("BACKUP_KEEP_WEEKLY", "-2"),
    ],
)
def test_retention_that_would_delete_everything(settings: dict[str, str], name: str, value: str) -> None:
    done = task(settings | {"BACKUP_RETENTION_DAYS": "7"} | {name: value}, *CLEANUP)
    assert (done.exit_code, done.error) == (2, "retention_invalid")
    assert name in done.message


def test_a_backup_from_the_future_stops_cleanup(
    settings: dict[str, str], store: Store, aged: Callable[[float], str]
) -> None:
    ids = [aged(days) for days in (50, 60, -1)]
    done = task(settings | {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}, *CLEANUP)
    assert (done.exit_code, done.error) == (2, "clock_wrong")
    assert ids[2] in done.message
    assert catalog.finished(store) == sorted(ids)


def test_list_shows_what_is_proven(settings: dict[str, str], store: Store, aged: Callable[[float], str]) -> None:
    fresh, proven, broken = (aged(days) for days in (0, 1, 2))
    restore_test(store, broken, hours_ago=9)
    passed = restore_test(store, proven, hours_ago=5)
    failed = restore_test(store, broken, hours_ago=1, result="failed", reason="public.orders is missing")
    rows = {row["id"]: row for row in task(settings, "backup", "list").result}
    assert list(rows) == [fresh, proven, broken]
    assert rows[fresh]["proven_at"] is None
    assert rows[fresh]["last_test"] is None
    assert rows[proven]["proven_by"] == passed
    assert rows[proven]["last_test"]["rto_seconds"] == 12.5
    assert rows[broken]["last_test"]["result"] == "failed"
    assert rows[broken]["last_test"]["reason"] == "public.orders is missing"
    assert rows[broken]["proven_by"] == failed - 2, "what it once passed stays on record"
    assert abs(rows[proven]["age_seconds"] - 86400) < 60

    store.put(evidence.evidence_key(passed), b"nonsense")
    unproven = task(settings, "backup", "list")
    assert [row["proven_at"] for row in unproven.result] == [None, None, None]
    assert "warning: nothing is shown as proven" in unproven.progress
    rules = {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}
    assert task(settings | rules, *CLEANUP).error == "evidence_broken", "the newest proven could be among them"


def test_the_gate(
    postgres: Postgres, settings: dict[str, str], store: Store, database: str, aged: Callable[[float], str]
) -> None:
    backup = aged(0.5)
    assert task(settings, *GATE).result == {"allowed_by": "empty database"}, "what a backup wrote does not count"
    postgres.execute("CREATE TABLE orders (id int)", database)

    assert task(settings, *GATE).error == "not_proven"
    restore_test(store, backup, hours_ago=1, result="failed", reason="x")
    assert task(settings, *GATE).error == "not_proven"
    restore_test(store, backup, hours_ago=25)
    late = task(settings, *GATE)
    assert (late.exit_code, late.error) == (1, "not_proven")
    assert "25.0 hours ago" in late.message
    assert task(settings, "backup", "gate", "--within-hours", "26").result["allowed_by"] == "proof"

    sequence = restore_test(store, backup, hours_ago=23.9)
    done = task(settings, *GATE)
    assert (done.result["allowed_by"], done.result["sequence"], done.result["backup"]) == ("proof", sequence, backup)

    # A forged record proves nothing.
    key = evidence.evidence_key(1)
    store.put(key, store.get(key).replace(b'"failed"', b'"passed"'))
    assert task(settings, *GATE).error == "evidence_broken"
    skipped = task(settings, *GATE, "--without-proof", "the store is being moved")
    assert skipped.result == {"allowed_by": "reason", "reason": "the store is being moved"}
    assert "warning" in skipped.progress


def test_a_backup_before_a_release_is_made_only_behind_an_open_gate(
    postgres: Postgres, settings: dict[str, str], store: Store, database: str, aged: Callable[[float], str]
) -> None:
    before_release = ("backup", "pre-release", "--within-hours", "24")
    backup = aged(0.5)
    postgres.execute("CREATE TABLE orders (id int)", database)
    assert task(settings, *before_release).error == "not_proven"
    assert catalog.finished(store) == [backup], "no backup is made behind a closed gate"

    restore_test(store, backup, hours_ago=1)
    done = task(settings, *before_release)
    assert done.result["gate"]["allowed_by"] == "proof"
    assert done.result["backup"]["id"] in catalog.finished(store)
    assert "-pre-release-" in done.result["backup"]["id"]


def test_a_proof_from_the_future_is_none(
    postgres: Postgres, settings: dict[str, str], store: Store, database: str, aged: Callable[[float], str]
) -> None:
    postgres.execute("CREATE TABLE orders (id int)", database)
    restore_test(store, aged(1), hours_ago=-2)
    assert task(settings, *GATE).error == "clock_wrong"


def test_a_gate_without_its_store_or_database(postgres: Postgres, settings: dict[str, str], database: str) -> None:
    postgres.execute("CREATE TABLE orders (id int)", database)
    assert task(settings | {"AWS_SECRET_ACCESS_KEY": "wrong"}, *GATE).error == "store_denied"
    assert task(settings | {"DATABASE_URL": postgres.url("gone")}, *GATE).error == "database_unreachable"


def test_cleanup_that_may_not_delete(
    settings: dict[str, str], s3: S3, store: Store, aged: Callable[[float], str]
) -> None:
    ids = [aged(days) for days in (20, 30)]
    key, secret = s3.reader
    reader = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    done = task(settings | reader | {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}, *CLEANUP)
    assert (done.exit_code, done.error) == (1, "store_denied")
    assert catalog.finished(store) == sorted(ids)


def test_a_deletion_that_was_interrupted(settings: dict[str, str], store: Store, aged: Callable[[float], str]) -> None:
    """Its manifest goes first: what is left is no backup, and the next one removes it."""
    gone = aged(20)
    store.delete([manifest_key(gone)])
    made = create(Environment(settings), "manual")
    assert isinstance(made, Manifest)
    assert {entry.key.split("/")[1] for entry in store.entries("backups/")} == {made.id}
