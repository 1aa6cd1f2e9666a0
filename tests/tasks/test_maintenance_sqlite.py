"""Maintenance of a SQLite file, beside an application that reads and writes it."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.environment import Environment
from tasks.store import open_store
from tests.support.maintenance_world import World

EVERY = [{"task": "analyze"}, {"task": "vacuum-analyze"}, {"task": "reindex"}, {"task": "statistics"}]
SMALL = {"bloat": {"bytes": 0, "ratio": 0.2}}


@pytest.fixture(params=["wal", "delete"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of which more than half is free, in either of SQLite's modes."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT, note TEXT)")
        connection.execute("CREATE TABLE visits (page TEXT)")
        connection.execute("CREATE INDEX orders_code ON orders (code)")
        rows = ((f"code-{number}", "x" * 200) for number in range(20_000))
        connection.executemany("INSERT INTO orders (code, note) VALUES (?, ?)", rows)
        connection.execute("DELETE FROM orders WHERE id > 5000")
        connection.commit()
    return path


@pytest.fixture
def world(file: Path, tmp_path: Path) -> World:
    settings = {
        "BACKUP_STORE": f"file://{tmp_path}/store",
        "DATABASE_URL": f"sqlite:///{file}",
        "MAINTENANCE_BOX": str(tmp_path),
    }
    open_store(Environment(settings)).prepare()
    return World(settings, settings["DATABASE_URL"])


def steps(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in report["tasks"]}


@dataclass
class Customers:
    """Requests that read and write all the time, and wait for a lock as long as Django does by default."""

    file: Path
    answered: int = 0
    failed: list[str] = field(default_factory=list[str])

    @contextmanager
    def shopping(self) -> Iterator[None]:
        ended = threading.Event()

        def shop() -> None:
            with closing(sqlite3.connect(self.file, timeout=5, isolation_level=None)) as connection:
                while not ended.wait(0.002):
                    try:
                        connection.execute("SELECT count(*) FROM orders WHERE code = 'code-7'").fetchall()
                        connection.execute("INSERT INTO visits VALUES ('/')")
                        self.answered += 1
                    except sqlite3.Error as error:
                        self.failed.append(str(error))

        threads = [threading.Thread(target=shop) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def test_every_task_does_its_work_beside_the_customers(world: World, file: Path) -> None:
    customers, before = Customers(file), file.stat().st_size
    with customers.shopping():
        done = world.run(EVERY, **SMALL)
    assert done.exit_code == 0, done.progress
    found = steps(done.result)
    assert {name: step["result"] for name, step in found.items()} == dict.fromkeys(found, "done")
    assert customers.failed == []
    assert customers.answered
    assert file.stat().st_size < before / 2
    assert found["vacuum-analyze"]["measures"]["bytes freed"] > 0
    assert found["reindex"]["notes"] == ["integrity_check: ok"]
    measures = found["statistics"]["measures"]
    assert measures["database bytes"] > 0
    assert measures["tables"] == 2
    with closing(sqlite3.connect(file)) as connection:
        analyzed = {table for (table,) in connection.execute("SELECT tbl FROM sqlite_stat1")}
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (5000,)
    assert "orders" in analyzed


def test_a_file_with_little_to_free_is_not_written_anew(world: World, file: Path) -> None:
    before = file.stat().st_ino, file.stat().st_size
    done = world.run([{"task": "vacuum-analyze"}])
    [note] = steps(done.result)["vacuum-analyze"]["notes"]
    assert note.startswith("not vacuumed:")
    assert "maintenanceTasks.bloat" in note
    assert (file.stat().st_ino, file.stat().st_size) == before


def test_a_volume_without_room_is_left_alone(world: World, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1, 1))  # type: ignore[attr-defined]
    before = file.stat().st_size
    done = world.run([{"task": "vacuum-analyze"}], **SMALL)
    assert done.exit_code == 0
    [note] = steps(done.result)["vacuum-analyze"]["notes"]
    assert "and 1 B are free" in note
    assert file.stat().st_size == before


def test_a_lock_that_is_held_leaves_a_table_out(world: World, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        done = world.run([{"task": "analyze"}], lockTimeoutSeconds=1)
        writer.execute("ROLLBACK")
    assert steps(done.result)["analyze"]["measures"] == {"tables done": 0, "tables left out": 2}
    assert "no lock within 1 s" in steps(done.result)["analyze"]["notes"][0]


def test_an_index_that_does_not_fit_its_table_is_built_again(world: World, file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        # The index's entries are those of a table that had one row less.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET type = 'x' WHERE name = 'orders_code'")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'orders_code'").fetchone()
        sql = "CREATE INDEX orders_code ON orders (code)"
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'orders_code'")
        connection.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DELETE FROM orders WHERE id = 7")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES ('index', 'orders_code', 'orders', ?, ?)", (root, sql))
        connection.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    done = world.run([{"task": "reindex"}])
    assert steps(done.result)["reindex"]["result"] == "done", done.result
    assert steps(done.result)["reindex"]["notes"] == ["orders_code: was not sound, and is rebuilt"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_damaged_file_fails_and_a_restore_is_advised(world: World, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'visits'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(b"\xff" * 64)
    done = world.run([{"task": "reindex", "retries": 0}])
    assert done.exit_code == 1
    assert "runbook restore start" in steps(done.result)["reindex"]["why"]


@pytest.mark.parametrize(("end", "what"), [("backup-lock", "a backup runs"), ("restore-lock", "a restore runs")])
def test_nothing_runs_beside_a_backup_or_a_restore(world: World, file: Path, end: str, what: str) -> None:
    with file.with_name(f"{file.name}.{end}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = world.run([{"task": "analyze"}])
    assert steps(held.result)["analyze"]["why"] == what
    assert steps(world.run([{"task": "analyze"}]).result)["analyze"]["result"] == "done"


def test_a_task_is_stopped_when_its_time_is_over(world: World, file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE VIEW long AS SELECT 1")
        big = ("INSERT INTO visits WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) "
               "SELECT printf('/%.300d', i) FROM n")  # fmt: skip
        connection.execute(big)
        connection.commit()
    done = world.run([{"task": "reindex", "timeoutSeconds": 1, "retries": 0}])
    why = steps(done.result)["reindex"]["why"]
    assert why is None or why == "it did not end within 1 s"


def test_two_runs_do_not_work_at_once(world: World, file: Path) -> None:
    with file.with_name(f"{file.name}.maintenance-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = world.run([{"task": "statistics"}])
    assert steps(done.result)["statistics"]["why"] == "another maintenance run is running"
