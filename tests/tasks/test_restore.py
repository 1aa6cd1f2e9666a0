"""Restore tests and restores into a new database, on a real PostgreSQL server and a real S3."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pyrage import x25519

from tests.support.restore_world import Shop, flip
from tests.support.servers import S3

ORDERS = ["thyme", "mint", "sage"]


@pytest.fixture
def on_s3(shop: Shop, s3: S3, bucket: str) -> Shop:
    shop.environment |= s3.environment(bucket)
    return shop


def test_a_restore_test_proves_a_backup(on_s3: Shop) -> None:
    shop = on_s3
    backup = shop.run("backup", "create", "--kind", "manual", RELEASE_REVISION="7", RELEASE_GIT="abc1234").json["id"]
    assert shop.run("backup", "list").json[0]["proven_at"] is None
    before = datetime.now(UTC)
    begun = shop.run("restore", "test-begin").json
    assert begun["backup"] == backup
    assert begun["integrity"]["amcheck"]["available"]
    assert begun["integrity"]["amcheck"]["checked"] > 100
    assert begun["integrity"]["data_checksums"] == {"available": True, "failures": 0}
    test = f"{shop.name}_test"
    assert shop.orders(test) == ORDERS
    assert shop.query("SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'", test) == [0]
    # What a pod does now: migrate, smoke.
    shop.server.execute("ALTER TABLE orders ADD note text", test)

    record = shop.run("restore", "test-conclude").json
    assert (record["result"], record["backup"], record["sequence"]) == ("passed", backup, 1)
    assert record["release"]["revision"] == 7
    assert record["rows"] == {"tables": 3, "rows": 6}
    assert record["server_versions"]["restored"].startswith("15.")
    assert [step["name"] for step in record["steps"]] == [
        "fetch",
        "restore",
        "check",
        "migrate and smoke",
    ]
    assert sum(step["seconds"] for step in record["steps"]) == pytest.approx(record["rto_seconds"], abs=0.5)
    assert 0 < record["rto_seconds"] < (datetime.now(UTC) - before).total_seconds() + 1
    assert 0 < record["rpo_seconds"] < 300

    listed = shop.run("backup", "list").json[0]
    assert (listed["proven_by"], listed["proven_at"]) == (1, record["at"])
    assert shop.run("evidence", "verify").json["passed"] == 1
    assert shop.run("backup", "gate", "--within-hours", "1").json["allowed_by"] == "proof"
    assert shop.run("restore", "test-conclude").json == record, "a pod that is started again records nothing twice"
    assert not list((Path(shop.environment["SCRATCH"])).glob("runbook-*")), "the dump is gone from the scratch folder"


def test_a_flipped_byte_is_named_and_recorded(on_s3: Shop, s3: S3, bucket: str) -> None:
    backup = on_s3.back_up()
    key = f"shop/backups/{backup}/{backup}.dump"
    content = bytearray(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    content[len(content) // 2] ^= 1
    s3.client().put_object(Bucket=bucket, Key=key, Body=bytes(content))

    for verb in ("verify", "into"):
        more = ("--database", f"{on_s3.name}_new") if verb == "into" else ()
        failed = on_s3.run("restore", verb, "--backup", backup, *more, expect=1)
        assert failed.code == "checksum_mismatch"
    failed = on_s3.run("restore", "test-begin", expect=1)
    assert failed.code == "checksum_mismatch"
    assert f"{backup}.dump" in failed.message
    assert on_s3.databases() == {on_s3.name}
    last = on_s3.newest_test()
    assert last["result"] == "failed"
    assert f"{backup}.dump" in last["reason"]
    assert on_s3.run("backup", "gate", "--within-hours", "1", expect=1).code == "not_proven"
    assert on_s3.run("restore", "test-conclude", expect=2).code == "attempt_missing"


def test_the_store_is_down(on_s3: Shop) -> None:
    backup = on_s3.back_up()
    on_s3.environment["S3_ENDPOINT_URL"] = "http://127.0.0.1:1"
    assert on_s3.run("restore", "test-begin", expect=1).code == "store_unreachable"
    into = ("restore", "into", "--backup", backup, "--database", f"{on_s3.name}_new")
    assert on_s3.run(*into, expect=1).code == "store_unreachable"
    assert on_s3.databases() == {on_s3.name}


def dump_of(shop: Shop, backup: str, name: str = "") -> Path:
    return (
        Path(shop.environment["BACKUP_STORE"].removeprefix("file://")) / "backups" / backup / (name or f"{backup}.dump")
    )


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_truncated(shop: Shop) -> None:
    backup = shop.back_up()
    os.truncate(dump_of(shop, backup), 1000)
    failed = shop.run("restore", "test-begin", expect=1)
    assert failed.code == "truncated"
    assert f"{backup}.dump" in failed.message
    assert shop.newest_test()["result"] == "failed"


@pytest.mark.parametrize("name", ["roles.sql", "{}.dump.sha256"])
def test_a_file_is_missing(shop: Shop, name: str) -> None:
    backup = shop.back_up()
    dump_of(shop, backup, name.format(backup)).unlink()
    assert shop.run("restore", "verify", "--backup", backup, expect=1).code == "file_missing"


def test_the_companion_was_changed(shop: Shop) -> None:
    backup = shop.back_up()
    rewrite(dump_of(shop, backup, f"{backup}.dump.sha256"), "  roles.sql", "  rules.sql")
    failed = shop.run("restore", "verify", "--backup", backup, expect=1)
    assert failed.code == "checksum_mismatch"
    assert "roles.sql" in failed.message


def test_the_manifest_is_missing(shop: Shop) -> None:
    backup = shop.back_up()
    dump_of(shop, backup, "manifest.json").unlink()
    into = ("--database", f"{shop.name}_new")
    assert shop.run("restore", "into", "--backup", backup, *into, expect=1).code == "manifest_missing"
    assert shop.run("restore", "test-begin", expect=1).code == "manifest_missing"
    assert shop.run("restore", "prepare", "--backup", backup, expect=1).code == "manifest_missing"


@pytest.mark.parametrize("words", [("test-begin",), ("into", "--database", "new"), ("prepare",)])
def test_the_server_is_older_than_the_dump(shop: Shop, words: tuple[str, ...]) -> None:
    backup = shop.back_up()
    rewrite(dump_of(shop, backup, "manifest.json"), '"server_version": "15.', '"server_version": "99.')
    failed = shop.run("restore", words[0], "--backup", backup, *words[1:], expect=2)
    assert failed.code == "server_older_than_dump"
    assert "version 99 or newer" in failed.message
    assert shop.databases() == {shop.name}


def test_rows_that_did_not_come_back_are_found(shop: Shop) -> None:
    backup = shop.back_up()
    rewrite(dump_of(shop, backup, "manifest.json"), '"public.orders": 3', '"public.orders": 4')
    failed = shop.run("restore", "test-begin", expect=1)
    assert failed.code == "rows_differ"
    assert "public.orders has 3 rows, the manifest says 4" in failed.message
    assert shop.run("restore", "prepare", "--backup", backup, expect=1).code == "rows_differ"
    assert shop.databases() == {shop.name}, "what is not right is not left behind"


def test_a_table_that_did_not_come_back_is_found(shop: Shop) -> None:
    backup = shop.back_up()
    rewrite(dump_of(shop, backup, "manifest.json"), '"public.orders": 3', '"public.orders": 3, "public.gone": 0')
    assert "public.gone is missing" in shop.run("restore", "test-begin", expect=1).message


def test_another_moments_dump_is_found_by_the_sentinel(shop: Shop) -> None:
    backup = shop.back_up()
    manifest = dump_of(shop, backup, "manifest.json")
    (token,) = shop.query("SELECT token FROM runbook.sentinel")
    rewrite(manifest, token, "0" * len(token))
    failed = shop.run("restore", "test-begin", expect=1)
    assert failed.code == "sentinel_missing"
    assert shop.newest_test()["reason"] == failed.message


def test_into_an_existing_database_is_refused(shop: Shop) -> None:
    backup = shop.back_up()
    shop.server.execute("INSERT INTO orders (what) VALUES ('rue')", shop.name)
    refused = shop.run("restore", "into", "--backup", backup, "--database", shop.name, expect=2)
    assert refused.code == "database_exists"
    assert shop.orders() == [*ORDERS, "rue"]
    assert shop.databases() == {shop.name}


@pytest.mark.parametrize("name", ["", "x" * 64])
def test_a_name_that_postgresql_would_cut_is_refused(shop: Shop, name: str) -> None:
    backup = shop.back_up()
    assert shop.run("restore", "into", "--backup", backup, "--database", name, expect=2).code == "name_invalid"


def test_into_brings_a_deleted_row_back(shop: Shop) -> None:
    backup = shop.back_up()
    shop.server.execute("DELETE FROM orders WHERE what = 'mint'", shop.name)
    new = f"{shop.name} it's=odd"
    done = shop.run("restore", "into", "--backup", backup, "--database", new, "--jobs", "2").json
    assert done["database"] == new
    assert shop.server.password not in done["url"]
    assert shop.orders(quote(new)) == ORDERS
    assert shop.orders() == ["thyme", "sage"]
    assert shop.databases() == {shop.name, new}
    shop.server.execute("INSERT INTO orders (what) VALUES ('next')", quote(new))  # the sequence goes on


def test_into_works_when_the_live_database_is_gone(shop: Shop) -> None:
    backup = shop.back_up()
    shop.server.execute(f"DROP DATABASE {shop.name}")
    shop.run("restore", "into", "--backup", backup, "--database", shop.name)
    assert shop.orders() == ORDERS


def test_a_directory_dump_by_two_jobs(shop: Shop) -> None:
    shop.environment |= {"BACKUP_FORMAT": "directory", "BACKUP_JOBS": "2"}
    backup = shop.back_up()
    shop.run("restore", "test-begin")
    assert shop.run("restore", "test-conclude").json["rows"] == {"tables": 3, "rows": 6}
    victim = next(file for file in dump_of(shop, backup).iterdir() if file.name.endswith(".dat.gz"))
    flip(victim)
    failed = shop.run("restore", "test-begin", expect=1)
    assert failed.code == "checksum_mismatch"
    assert victim.name in failed.message


def test_encrypted(shop: Shop, tmp_path: Path) -> None:
    keys = {name: x25519.Identity.generate() for name in ("old", "new", "other")}
    for name, key in keys.items():
        (tmp_path / name).write_text(f"{key}\n")
    shop.environment["BACKUP_RECIPIENTS"] = str(keys["old"].to_public())
    backup = shop.back_up()
    assert shop.run("restore", "verify", "--backup", backup).json["files"] == 2, "needs no key"
    assert shop.run("restore", "test-begin", expect=2).code == "identity_missing"
    wrong = shop.run("restore", "test-begin", expect=2, BACKUP_IDENTITIES_FILE=str(tmp_path / "other"))
    assert wrong.code == "identity_missing"
    assert f"{backup}.dump.age" in wrong.message

    # A rotation: new backups are for the new key, the file has both, the old backup is read as it is.
    shop.environment["BACKUP_RECIPIENTS"] = str(keys["new"].to_public())
    both = tmp_path / "both"
    both.write_text(f"# rotated\n{keys['new']}\n{keys['old']}\n")
    shop.environment["BACKUP_IDENTITIES_FILE"] = str(both)
    newer = shop.back_up()
    for each in (backup, newer):
        shop.run("restore", "test-begin", "--backup", each)
        assert shop.run("restore", "test-conclude").json["result"] == "passed"
    dump = dump_of(shop, newer, f"{newer}.dump.age")
    flip(dump)
    failed = shop.run("restore", "test-begin", "--backup", newer, expect=1)
    assert failed.code == "checksum_mismatch"
    assert dump.name in failed.message


def test_the_database_is_unreachable(shop: Shop) -> None:
    backup = shop.back_up()
    nowhere = shop.server.url(f"{shop.name}_test").replace(f":{shop.server.port}/", ":1/")
    failed = shop.run("restore", "test-begin", expect=1, RESTORE_DATABASE_URL=nowhere)
    assert failed.code == "database_unreachable"
    assert shop.newest_test()["result"] == "failed"
    into = ("restore", "into", "--backup", backup, "--database", "new")
    assert shop.run(*into, expect=1, DATABASE_URL=nowhere).code == "database_unreachable"


def test_a_restore_test_throws_away_only_its_own(shop: Shop) -> None:
    shop.back_up()
    refused = shop.run("restore", "test-begin", expect=2, RESTORE_DATABASE_URL=shop.environment["DATABASE_URL"])
    assert refused.code == "environment_invalid"
    with shop.server.database(f"{shop.name}_test") as name:
        shop.server.execute("CREATE TABLE precious ()", name)
        refused = shop.run("restore", "test-begin", expect=2)
        assert refused.code == "database_exists"
        assert shop.query("SELECT count(*) FROM precious", name) == [0]
        shop.server.execute("DROP TABLE precious", name)
        shop.run("restore", "test-begin")
        shop.run("restore", "test-begin")


def test_what_never_concluded_is_recorded_by_the_next(shop: Shop) -> None:
    shop.back_up()
    begun = shop.run("restore", "test-begin").json
    assert shop.newest_test() is None
    again = shop.run("restore", "test-begin").json
    assert again["attempt"] != begun["attempt"]
    assert shop.newest_test()["result"] == "failed"
    assert "did not conclude" in shop.newest_test()["reason"]
    assert shop.run("restore", "test-conclude").json["sequence"] == 2
    assert shop.run("evidence", "verify").json == {
        "records": 2,
        "passed": 1,
        "failed": 1,
        "head": shop.run("restore", "test-conclude").json["sha256"],
    }


def test_two_restores_at_once(shop: Shop) -> None:
    backup = shop.back_up()
    with shop.server.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"runbook restore of {shop.name}",))
        into = ("restore", "into", "--backup", backup, "--database", f"{shop.name}_new")
        assert shop.run(*into, expect=1).code == "restore_running"
    shop.run(*into)


def test_two_restore_tests_at_once_both_conclude(shop: Shop, tmp_path: Path) -> None:
    """Two pods: each has a scratch folder and a server of its own; one begins while the other one migrates."""
    shop.back_up()
    (tmp_path / "other").mkdir()
    other: dict[str, Any] = {
        "SCRATCH": str(tmp_path / "other"),
        "RESTORE_DATABASE_URL": shop.server.url(f"{shop.name}_test2"),
    }
    first = shop.run("restore", "test-begin").json
    second = shop.run("restore", "test-begin", **other).json
    assert first["attempt"] != second["attempt"]
    assert shop.run("restore", "test-conclude").json["result"] == "passed"
    assert shop.run("restore", "test-conclude", **other).json["result"] == "passed"
    found = shop.run("evidence", "verify").json
    assert (found["passed"], found["failed"]) == (2, 0)


def test_what_never_concluded_elsewhere_is_recorded_after_its_deadline(shop: Shop, tmp_path: Path) -> None:
    shop.back_up()
    (tmp_path / "other").mkdir()
    other: dict[str, Any] = {
        "SCRATCH": str(tmp_path / "other"),
        "RESTORE_DATABASE_URL": shop.server.url(f"{shop.name}_test2"),
    }
    shop.run("restore", "test-begin", RESTORE_TEST_TIMEOUT_SECONDS="1", **other)
    until = time.monotonic() + 30
    while shop.newest_test() is None:  # its deadline, of one second, may not have passed yet
        assert time.monotonic() < until
        shop.run("restore", "test-begin")
    assert shop.newest_test()["result"] == "failed"
    # It was alive after all, and everything after it passed.
    assert shop.run("restore", "test-conclude", **other).json["result"] == "passed"
