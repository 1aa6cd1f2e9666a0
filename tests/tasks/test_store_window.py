"""A restore test's pod reads the store through another pod, and can change nothing but its own result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.restore import evidence
from tasks.store import Store, open_store
from tasks.store.base import Exists, Missing
from tasks.store.window import serve
from tests.support.servers import Postgres, free_ports
from tests.support.task_processes import ended, start, task

TOKEN = "t" * 40


@pytest.fixture
def seen(store: Store) -> Iterator[dict[str, str]]:
    """The environment of a pod that has only the window."""
    server = serve(store, "127.0.0.1", 0, TOKEN)
    yield {"BACKUP_STORE": f"http://127.0.0.1:{server.server_port}", "STORE_TOKEN": TOKEN}
    server.shutdown()
    server.server_close()


@pytest.fixture
def window(seen: dict[str, str]) -> Store:
    return open_store(Environment(seen))


def test_everything_is_read_as_it_is(store: Store, window: Store) -> None:
    big = bytes(range(256)) * 20_000
    for key, data in (("backups/a/é b.dump", big), ("backups/a/manifest.json", b"{}"), ("backups/b/empty", b"")):
        store.put(key, data)
        assert window.get(key) == data
    assert list(window.entries("backups/a/")) == list(store.entries("backups/a/"))
    with window.open("backups/a/é b.dump") as stream:
        assert stream.read(1000) == big[:1000]
    with pytest.raises(Missing):
        window.get("backups/a/none")


def test_only_records_and_attempts_are_written(store: Store, window: Store) -> None:
    window.put("attempts/1.json", b"1")
    window.put("attempts/1.json", b"2")
    window.put("evidence/00000001.json", b"{}", new=True)
    with pytest.raises(Exists):
        window.put("evidence/00000001.json", b"{}", new=True)
    with pytest.raises(Exists):  # not even without `new`
        window.put("evidence/00000001.json", b"{}")
    window.delete(["attempts/1.json"])
    store.put("backups/a/manifest.json", b"{}")
    for refused in (
        lambda: window.put("backups/a/manifest.json", b"x"),
        lambda: window.put("evidence/../backups/a/manifest.json", b"x"),
        lambda: window.put("locks/backup/1.json", b"x"),
        lambda: window.put("evidence/2.json", bytes(2 << 20)),
        lambda: window.delete(["backups/a/manifest.json"]),
        lambda: window.delete(["evidence/00000001.json"]),
        window.prepare,
    ):
        with pytest.raises(TaskError) as caught:
            refused()
        assert caught.value.code == "store_denied"
    assert store.get("backups/a/manifest.json") == b"{}"
    assert [entry.key for entry in store.entries()] == ["backups/a/manifest.json", "evidence/00000001.json"]


def test_without_the_token_there_is_nothing(seen: dict[str, str], store: Store) -> None:
    store.put("backups/a/manifest.json", b"{}")
    other = open_store(Environment(seen | {"STORE_TOKEN": "x"}))
    for refused in (lambda: other.get("backups/a/manifest.json"), lambda: list(other.entries())):
        with pytest.raises(TaskError) as caught:
            refused()
        assert caught.value.code == "store_denied"
    assert TOKEN in Environment(seen).secrets


def test_an_answer_that_breaks_off_is_an_error(store: Store, window: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("backups/a/dump", bytes(5000))
    entries = list(store.entries("backups/a/dump"))
    longer = [type(entry)(entry.key, entry.size + 1, entry.modified) for entry in entries]
    monkeypatch.setattr(store, "entries", lambda _prefix="": iter(longer))
    with pytest.raises(TaskError) as caught:
        window.get("backups/a/dump")
    assert caught.value.code == "store_unreachable"


def test_the_exporter_serves_it(settings: dict[str, str], store: Store) -> None:
    store.put("backups/a/manifest.json", b"{}")
    metrics, port = free_ports(2)
    local = {"EXPORTER_HOST": "127.0.0.1", "EXPORTER_PORT": str(metrics), "STORE_PORT": str(port), "STORE_TOKEN": TOKEN}
    exporter = start(settings | local, "exporter")
    try:
        seen = {"BACKUP_STORE": f"http://127.0.0.1:{port}", "STORE_TOKEN": TOKEN}
        assert open_store(Environment(seen)).get("backups/a/manifest.json") == b"{}"
    finally:
        exporter.terminate()
    assert ended(exporter, settings).exit_code == 0


def test_a_whole_restore_test_through_the_window(
    settings: dict[str, str], seen: dict[str, str], store: Store, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    postgres.execute("CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 1000)", database)
    made = task(settings | {"DATABASE_URL": postgres.url(database)}, "backup", "create", "--kind", "manual").result
    with postgres.database() as aside:
        test = {**seen, "SCRATCH": str(tmp_path), "RESTORE_DATABASE_URL": postgres.url(aside)}
        assert task(test, "restore", "test-begin").exit_code == 0
        assert task(test, "restore", "test-conclude").exit_code == 0
    (record,) = evidence.verify(store)
    assert (record["backup"], record["result"]) == (made["id"], "passed")
    assert not list(store.entries("attempts/"))
