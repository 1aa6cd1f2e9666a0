"""Restores of SQLite: the same verbs on files, and SIGKILL between everything they do to them."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.restore_world import Done, flip, run

OLD, NEW = ["thyme", "mint"], ["mint", "rue"]


@dataclass
class Files:
    live: Path
    environment: dict[str, str]

    def run(self, *words: str, expect: int = 0, **more: str) -> Done:
        done = run(self.environment | more, *words)
        assert done.status == expect, f"{' '.join(words)} ended with {done.status}:\n{done.out}{done.err}"
        return done

    def orders(self, name: str | None = None) -> list[str]:
        with closing(sqlite3.connect(self.live.with_name(name or self.live.name))) as connection:
            return [what for (what,) in connection.execute("SELECT what FROM orders ORDER BY id")]

    def change(self) -> None:
        with closing(sqlite3.connect(self.live)) as connection, connection:
            connection.execute("DELETE FROM orders WHERE what = 'thyme'")
            connection.execute("INSERT INTO orders (what) VALUES ('rue')")

    def databases(self) -> set[str]:
        others = (".note.json", "-lock", "-wal", "-shm")
        return {file.name for file in self.live.parent.iterdir() if not file.name.endswith(others)}


@pytest.fixture(params=["delete", "wal"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "scratch").mkdir()
    live = folder / "shop.db"
    with closing(sqlite3.connect(live)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {request.param}")
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)")
        connection.execute("INSERT INTO orders (what) VALUES ('thyme'), ('mint')")
    live.chmod(0o640)
    return Files(
        live,
        {
            "DATABASE_URL": f"sqlite:///{live}",
            "RESTORE_DATABASE_URL": f"file:{tmp_path}/scratch/test.db",
            "BACKUP_STORE": f"file://{tmp_path}/store",
            "SCRATCH": str(tmp_path / "scratch"),
        },
    )


@pytest.fixture
def backup(files: Files) -> str:
    made = files.run("backup", "create", "--kind", "manual").json["id"]
    files.change()
    return made


def test_a_restore_test(files: Files, backup: str) -> None:
    begun = files.run("restore", "test-begin").json
    assert begun["integrity"]["integrity_check"] == "ok"
    assert begun["rows"] == {"tables": 2, "rows": 3}
    assert files.run("restore", "test-conclude").json["backup"] == backup
    assert files.run("backup", "list").json[0]["proven_by"] == 1
    live = files.environment["DATABASE_URL"]
    assert files.run("restore", "test-begin", expect=2, RESTORE_DATABASE_URL=live).code == "environment_invalid"
    assert files.orders() == NEW


def test_into(files: Files, backup: str) -> None:
    done = files.run("restore", "into", "--backup", backup, "--database", "before.db").json
    assert done["url"].endswith("/data/before.db")
    assert files.orders("before.db") == OLD
    assert files.live.with_name("before.db").stat().st_mode & 0o777 == 0o640
    assert files.run("restore", "into", "--backup", backup, "--database", "shop.db", expect=2).code == "database_exists"
    assert files.run("restore", "into", "--backup", backup, "--database", "../x", expect=2).code == "name_invalid"
    assert files.orders() == NEW
    assert files.databases() == {"shop.db", "before.db"}


def test_a_flipped_byte(files: Files, backup: str) -> None:
    store = Path(files.environment["BACKUP_STORE"].removeprefix("file://"))
    flip(store / "backups" / backup / f"{backup}.db.gz")
    failed = files.run("restore", "prepare", "--backup", backup, expect=1)
    assert failed.code == "checksum_mismatch"
    assert f"{backup}.db.gz" in failed.message
    assert files.databases() == {"shop.db"}


def test_in_place(files: Files, backup: str) -> None:
    with closing(sqlite3.connect(files.live)) as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    prepared = files.run("restore", "prepare", "--backup", backup).json
    assert files.orders(prepared["restored"]) == OLD
    swapped = files.run("restore", "swap").json
    assert (files.orders(), files.orders(swapped["replaced"])) == (OLD, NEW)
    undone = files.run("restore", "undo").json
    assert (files.orders(), files.orders(undone["undone"])) == (NEW, OLD)
    with closing(sqlite3.connect(files.live)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)
    assert files.run("restore", "finish").json["phase"] == "idle"
    assert files.databases() == {"shop.db"}
    files.run("restore", "prepare", "--backup", backup)
    files.run("restore", "swap")
    files.run("restore", "finish")
    assert files.databases() == {"shop.db"}
    assert files.orders() == OLD


def test_swap_fails_while_a_client_has_the_file_open(files: Files, backup: str) -> None:
    files.run("restore", "prepare", "--backup", backup)
    with closing(sqlite3.connect(files.live, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        failed = files.run("restore", "swap", expect=1)
        assert failed.code == "database_in_use"
    assert files.run("restore", "state").json["phase"] == "prepared"
    assert files.orders() == NEW


def killed_after_each_act(
    files: Files, monkeypatch: pytest.MonkeyPatch, *words: str, again: Callable[[], object]
) -> Iterator[None]:
    """Like a kill at any time: after the 1st, 2nd … thing that the verb did to the folder, until it gets through."""
    for point in range(1, 100):
        done = {"acts": 0}

        def ticking(act: Callable[..., Any], point: int = point, done: dict[str, int] = done) -> Callable[..., Any]:
            def ticked(*args: Any, **options: Any) -> Any:
                result = act(*args, **options)
                done["acts"] += 1
                if done["acts"] == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return ticked

        # The command runs in a fork of this process: what is counted here is counted there.
        with monkeypatch.context() as patch:
            for holder, name in ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "link"), (os, "fsync")):
                patch.setattr(holder, name, ticking(getattr(holder, name)))
            ended = run(files.environment, *words)
        if ended.status == 0:
            assert point > 3
            return
        assert ended.status == -signal.SIGKILL, ended.err
        yield
        again()
    raise AssertionError("it does not end")


def test_swap_killed_anywhere(files: Files, backup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_over() -> None:
        files.run("restore", "undo")
        files.run("restore", "finish")
        files.run("restore", "prepare", "--backup", backup)

    files.run("restore", "prepare", "--backup", backup)
    phases: set[str] = set()
    for _ in killed_after_each_act(files, monkeypatch, "restore", "swap", again=start_over):
        phase = files.run("restore", "state").json["phase"]
        phases.add(phase)
        assert files.orders() == {"prepared": NEW, "swapped": OLD}[phase]
        swapped = files.run("restore", "swap").json
        assert (files.orders(), files.orders(swapped["replaced"])) == (OLD, NEW)
    assert phases == {"prepared", "swapped"}


def test_undo_killed_anywhere(files: Files, backup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_over() -> None:
        files.run("restore", "finish")
        files.run("restore", "prepare", "--backup", backup)
        files.run("restore", "swap")

    files.run("restore", "prepare", "--backup", backup)
    files.run("restore", "swap")
    for _ in killed_after_each_act(files, monkeypatch, "restore", "undo", again=start_over):
        assert files.orders() == {"swapped": OLD, "undone": NEW}[files.run("restore", "state").json["phase"]]
        undone = files.run("restore", "undo").json
        assert (files.orders(), files.orders(undone["undone"])) == (NEW, OLD)


def test_prepare_killed_anywhere(files: Files, backup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def again() -> None:
        files.run("restore", "undo")
        assert files.databases() == {"shop.db"}

    words = ("restore", "prepare", "--backup", backup)
    for _ in killed_after_each_act(files, monkeypatch, *words, again=again):
        assert files.orders() == NEW
        assert files.run("restore", "state").json["phase"] in ("idle", "preparing", "prepared")
        assert files.orders(files.run(*words).json["restored"]) == OLD
