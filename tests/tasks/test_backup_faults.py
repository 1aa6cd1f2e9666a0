"""Faults during backups. Each ends with one error code, no incomplete backup is listed, and the next backup works."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from sandbox.packages import require
from tasks.backup import catalog
from tasks.backup.create import create
from tasks.backup.listing import listing
from tasks.backup.manifest import manifest_key
from tasks.backup.postgres_source import LOCK
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.store import Store, open_store
from tests.support.proxy import After, Proxy, Stall, cut, proxy
from tests.support.servers import S3, Postgres
from tests.support.small_disk import as_root, tiny
from tests.support.task_processes import ended, start, task

MIB = 1 << 20
CREATE = ("backup", "create", "--kind", "scheduled")


@pytest.fixture(scope="module")
def heavy(postgres: Postgres) -> Iterator[str]:
    """A database whose dump has some 12 MiB: two parts. On the wire to pg_dump it has twice as many."""
    with postgres.database() as name, postgres.connect(name) as connection:
        connection.execute("CREATE TABLE heavy (content bytea)")
        connection.execute("ALTER TABLE heavy ALTER content SET STORAGE EXTERNAL")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO heavy VALUES (%s)", [(os.urandom(MIB),) for _ in range(12)])
        yield name


@pytest.fixture
def light(settings: dict[str, str], postgres: Postgres, database: str) -> dict[str, str]:
    """The same with a database whose dump takes no time."""
    return settings | {"DATABASE_URL": postgres.url(database)}


@pytest.fixture
def settings(postgres: Postgres, s3: S3, heavy: str, bucket: str, tmp_path: Path) -> dict[str, str]:
    return {**s3.environment(bucket), "DATABASE_URL": postgres.url(heavy), "SCRATCH": str(tmp_path)}


def store_of(settings: dict[str, str]) -> Store:
    return open_store(Environment(settings))


def nothing_is_listed(settings: dict[str, str]) -> bool:
    return listing(Environment(settings)) == []


def the_next_one_works(settings: dict[str, str]) -> None:
    done = create(Environment(settings), "scheduled")
    assert [row["id"] for row in listing(Environment(settings))] == [done.id]
    assert {key.split("/")[1] for key in _keys(settings)} == {done.id}, "leftovers are gone"
    assert store_of(settings).clear_unfinished() == 0


def _keys(settings: dict[str, str]) -> list[str]:
    return [entry.key for entry in store_of(settings).entries("backups/")]


@contextmanager
def stalled_database(postgres: Postgres, settings: dict[str, str], at: int) -> Iterator[tuple[dict[str, str], Stall]]:
    """Settings of the same database, which stops answering after so many bytes."""
    stall = Stall()
    with proxy(postgres.port, down=After(at, stall)) as wire:
        try:
            yield through(wire, postgres, settings), stall
        finally:
            stall.release()


def through(wire: Proxy, postgres: Postgres, settings: dict[str, str]) -> dict[str, str]:
    return settings | {"DATABASE_URL": settings["DATABASE_URL"].replace(f":{postgres.port}/", f":{wire.port}/")}


def test_killed_in_mid_dump(postgres: Postgres, settings: dict[str, str]) -> None:
    with stalled_database(postgres, settings, 5 * MIB) as (slow, stall):
        process = start(slow, *CREATE)
        assert stall.reached.wait(60)
        process.kill()
        process.communicate()
    assert nothing_is_listed(settings)
    the_next_one_works(settings)


def test_killed_while_its_dump_is_in_scratch(postgres: Postgres, settings: dict[str, str], tmp_path: Path) -> None:
    """A restarted container finds the volume as the killed one left it."""
    with stalled_database(postgres, settings, 5 * MIB) as (slow, stall):
        process = start(slow | {"BACKUP_FORMAT": "directory"}, *CREATE)
        assert stall.reached.wait(60)
        mine = task(
            settings | {"BACKUP_STORE": f"file://{tmp_path}/else", "DATABASE_URL": sqlite_at(tmp_path)}, *CREATE
        )
        assert mine.exit_code == 0
        assert list(tmp_path.glob("runbook-*")), "a living one's is left alone"
        process.kill()
        process.communicate()
    assert list(tmp_path.glob("runbook-*"))
    assert task(settings | {"BACKUP_FORMAT": "directory"}, *CREATE).exit_code == 0
    assert not list(tmp_path.glob("runbook-*"))


def sqlite_at(folder: Path) -> str:
    live = folder / "live.db"
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n)")
    return f"sqlite:///{live}"


def test_killed_in_mid_upload(s3: S3, settings: dict[str, str]) -> None:
    stall = Stall()
    with proxy(s3.port, After(9 * MIB, stall)) as wire:
        process = start(settings | {"S3_ENDPOINT_URL": wire.endpoint}, *CREATE)
        assert stall.reached.wait(60)
        process.kill()
        process.communicate()
        stall.release()
    assert nothing_is_listed(settings)
    uploads = s3.client().list_multipart_uploads(Bucket=settings["BACKUP_STORE"].split("/")[2]).get("Uploads", [])
    assert len(uploads) == 1
    the_next_one_works(settings)


def test_asked_to_end(postgres: Postgres, settings: dict[str, str]) -> None:
    """SIGTERM, as at the deletion or the deadline of a pod: the task removes what it has written."""
    with stalled_database(postgres, settings, 20 * MIB) as (slow, stall):
        process = start(slow, *CREATE)
        assert stall.reached.wait(60)
        process.send_signal(signal.SIGTERM)
        done = ended(process, slow)
    assert (done.exit_code, done.error) == (1, "interrupted")
    assert _keys(settings) == []
    assert store_of(settings).clear_unfinished() == 0


def test_two_at_once(postgres: Postgres, settings: dict[str, str]) -> None:
    with stalled_database(postgres, settings, 5 * MIB) as (slow, stall):
        first = start(slow, *CREATE)
        assert stall.reached.wait(60)
        second = task(settings, *CREATE)
        assert (second.exit_code, second.error) == (1, "backup_running")
        assert "from 127.0.0.1" in second.message
        first.kill()
        first.communicate()
    the_next_one_works(settings)


def test_a_release_waits_for_the_backup_that_runs(light: dict[str, str]) -> None:
    """R1: it makes its own backup when the other one has ended."""
    words = ["backup", "pre-release", "--within-hours", "1", "--without-proof", "a test"]
    with psycopg.connect(light["DATABASE_URL"], autocommit=True) as other:
        pid = other.info.backend_pid
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        waiting = start({**light, "BACKUP_WAIT_SECONDS": "100"}, *words)
        waited = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 60
        while not other.execute(waited).fetchall()[0][0]:
            assert time.monotonic() < deadline
            assert waiting.poll() is None
        assert nothing_is_listed(light)
    done = ended(waiting, light)
    assert done.exit_code == 0, done.progress
    assert "another backup of" in done.progress
    assert f"pid {pid}" in done.progress


def test_a_release_is_refused_when_the_backup_does_not_end(light: dict[str, str]) -> None:
    words = ["backup", "gate", "--within-hours", "1", "--without-proof", "a test", "--when-idle"]
    patient = {**light, "BACKUP_WAIT_SECONDS": "1"}
    with psycopg.connect(light["DATABASE_URL"], autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        done = task(patient, *words)
    assert (done.exit_code, done.error) == (1, "backup_running")
    assert "did not end within 1 s" in done.message
    assert task(patient, *words).exit_code == 0


def test_two_at_once_of_sqlite(settings: dict[str, str], tmp_path: Path) -> None:
    settings = settings | {"DATABASE_URL": sqlite_at(tmp_path)}
    with (tmp_path / "live.db.backup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = task(settings, *CREATE)
    assert (done.exit_code, done.error) == (1, "backup_running")
    the_next_one_works(settings)


@pytest.mark.parametrize("at", [0, 100_000, 9 * MIB, 12 * MIB])
def test_the_store_goes_away(s3: S3, settings: dict[str, str], at: int) -> None:
    with proxy(s3.port) as wire:

        def away(data: bytes) -> bytes:
            wire.down_for_good = True
            return cut(data)

        wire.up = After(at, away)
        done = task(settings | {"S3_ENDPOINT_URL": wire.endpoint}, *CREATE)
    assert (done.exit_code, done.error) == (1, "upload_interrupted" if at else "store_unreachable")
    assert nothing_is_listed(settings)
    the_next_one_works(settings)


def test_the_store_refuses(s3: S3, light: dict[str, str]) -> None:
    """A key that may only read: `store_denied`, and no backup is listed."""
    key, secret = s3.reader
    done = task(light | {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}, *CREATE)
    assert (done.exit_code, done.error) == (1, "store_denied")
    assert nothing_is_listed(light)


@pytest.mark.parametrize(
    ("changed", "code", "text"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "store_denied", "access key"),
        ({"BACKUP_STORE": "s3://no-such-bucket/shop"}, "bucket_missing", "S3_CREATE_BUCKET"),
        ({"BACKUP_STORE": ""}, "environment_invalid", "BACKUP_STORE"),
        ({"DATABASE_URL": "mysql://x:wrong-secret@h/x"}, "environment_invalid", "postgresql://"),
        (
            {"DATABASE_URL": "postgresql://u:wrong-secret@127.0.0.1:1/shop?connect_timeout=1"},
            "database_unreachable",
            "shop on 127.0.0.1",
        ),
        ({"BACKUP_RECIPIENTS": "age1unknown"}, "environment_invalid", "age1unknown"),
        ({"BACKUP_FORMAT": "tar"}, "environment_invalid", "custom or directory"),
        ({"BACKUP_JOBS": "0"}, "environment_invalid", "BACKUP_JOBS"),
    ],
)
def test_refused_at_once(light: dict[str, str], changed: dict[str, str], code: str, text: str) -> None:
    done = task(light | changed, *CREATE)
    assert (done.exit_code, done.error) == (2 if code == "environment_invalid" else 1, code)
    assert text in done.message
    assert "wrong-secret" not in done.progress + done.message


def test_a_wrong_password(postgres: Postgres, settings: dict[str, str], heavy: str) -> None:
    done = task(settings | {"DATABASE_URL": postgres.url(heavy, password="not/it")}, *CREATE)
    assert done.error == "database_unreachable"
    assert "password authentication failed" in done.message


def test_the_database_goes_away(postgres: Postgres, settings: dict[str, str]) -> None:
    with proxy(postgres.port) as wire:

        def away(data: bytes) -> bytes:
            wire.close()
            return cut(data)

        wire.down = After(20 * MIB, away)
        done = task(through(wire, postgres, settings), *CREATE)
    assert (done.exit_code, done.error) == (1, "database_unreachable")
    assert _keys(settings) == []
    assert store_of(settings).clear_unfinished() == 0


def test_pg_dump_is_ended(postgres: Postgres, settings: dict[str, str], heavy: str) -> None:
    with postgres.connect(heavy) as locking, locking.transaction():
        locking.execute("LOCK TABLE heavy IN ACCESS EXCLUSIVE MODE")
        process = start(settings, *CREATE)
        ended_it = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
        waiter = threading.Event()
        with postgres.connect() as watching:
            while not watching.execute(f"{ended_it} AND wait_event_type = 'Lock'").fetchall():
                assert process.poll() is None
                waiter.wait(0.02)
        done = ended(process, settings)
    assert (done.exit_code, done.error) == (1, "dump_failed")
    assert "terminating connection" in done.message
    assert _keys(settings) == []


def test_the_lock_is_lost(postgres: Postgres, s3: S3, settings: dict[str, str]) -> None:
    """A task that lost the lock must not finish: another may have begun and deleted its parts as leftovers."""
    stall = Stall()
    with proxy(s3.port, After(9 * MIB, stall)) as wire:
        process = start(settings | {"S3_ENDPOINT_URL": wire.endpoint}, *CREATE)
        assert stall.reached.wait(60)
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'runbook backup'"
        )
        stall.release()
        done = ended(process, settings)
    assert (done.exit_code, done.error) == (1, "database_unreachable")
    assert _keys(settings) == []


def test_a_server_newer_than_our_programs(postgres: Postgres, light: dict[str, str]) -> None:
    def newer(data: bytes) -> bytes:
        return data.replace(b"server_version\x0015.", b"server_version\x0016.")

    with proxy(postgres.port, down=newer) as wire:
        done = task(through(wire, postgres, light), *CREATE)
    assert (done.exit_code, done.error) == (1, "client_older_than_server")
    assert "version 16 or newer" in done.message
    assert _keys(light) == []


@as_root
def test_scratch_is_full(settings: dict[str, str], tmp_path: Path) -> None:
    done = task(settings | {"BACKUP_FORMAT": "directory"}, *CREATE, before=tiny(tmp_path, 4))
    assert (done.exit_code, done.error) == (1, "disk_full")
    assert "SCRATCH" in done.message
    assert _keys(settings) == []


@as_root
def test_the_volume_is_full(settings: dict[str, str], tmp_path: Path) -> None:
    done = task(settings | {"BACKUP_STORE": f"file://{tmp_path}/backups"}, *CREATE, before=tiny(tmp_path, 4))
    assert (done.exit_code, done.error) == (1, "disk_full")


@as_root
def test_scratch_is_full_for_sqlite(settings: dict[str, str], tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "live.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT zeroblob(9000000)")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings = settings | {"DATABASE_URL": f"sqlite:///{tmp_path}/live.db", "SCRATCH": str(scratch)}
    done = task(settings, *CREATE, before=tiny(scratch, 4))
    assert (done.exit_code, done.error) == (1, "disk_full")
    assert _keys(settings) == []


def wrong_clock(by: str) -> list[str]:
    return [require("faketime"), "-f", by]


@pytest.mark.parametrize("by", ["-1h", "+1h"])
def test_a_wrong_clock_makes_no_backup(light: dict[str, str], tmp_path: Path, by: str) -> None:
    for changed in ({}, {"BACKUP_STORE": f"file://{tmp_path}/backups"}):
        done = task(light | changed, *CREATE, before=wrong_clock(by))
        assert (done.exit_code, done.error) == (1, "clock_wrong")
    assert nothing_is_listed(light)


@pytest.mark.parametrize("by", ["-10m", "+10m", "-2d", "+400d"])
def test_a_wrong_clock_deletes_nothing(light: dict[str, str], by: str) -> None:
    made = [create(Environment(light), "scheduled").id for _ in range(2)]
    rules = {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}
    done = task(light | rules, "backup", "cleanup", before=wrong_clock(by))
    assert done.error == "clock_wrong"
    assert catalog.finished(store_of(light)) == sorted(made)


def test_a_manifest_is_missing(light: dict[str, str]) -> None:
    store = store_of(light)
    manifest = create(Environment(light), "scheduled")
    store.delete([manifest_key(manifest.id)])
    assert nothing_is_listed(light)
    with pytest.raises(TaskError, match=f"{manifest.id}.*no manifest") as caught:
        catalog.find(store, manifest.id)
    assert caught.value.code == "manifest_missing"
    the_next_one_works(light)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-50],
        lambda data: b"{}",
        lambda data: b"\xff",
        lambda data: data.replace(b"-scheduled-", b"-manual-"),
    ],
    ids=["truncated", "empty", "not text", "another's"],
)
def test_a_damaged_manifest_hides_only_its_backup(light: dict[str, str], damage: Callable[[bytes], bytes]) -> None:
    store = store_of(light)
    bad, good = (create(Environment(light), "scheduled").id for _ in range(2))
    store.put(manifest_key(bad), damage(store.get(manifest_key(bad))))
    done = task(light, "backup", "list")
    assert [row["id"] for row in done.result] == [good]
    assert f"warning: the manifest of backup {bad}" in done.progress
    with pytest.raises(TaskError) as caught:
        catalog.find(store, bad)
    assert caught.value.code == "manifest_invalid"
    # Its files may be the only copy of the data: no task deletes them.
    rules = {"BACKUP_RETENTION_DAYS": "1", "BACKUP_KEEP_LEAST": "1"}
    assert task(light | rules, "backup", "cleanup").result["deleted"] == []
    create(Environment(light), "scheduled")
    assert any(bad in key and key.endswith(".dump") for key in _keys(light))
