"""Two backups on one store: one runs, the other says who does; what is listed is whole."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.backup import catalog, store_lock
from tasks.backup.manifest import manifest_key
from tasks.backup.patience import Patience
from tasks.backup.store_lock import FOLDER, Holder, held
from tasks.errors import TaskError
from tasks.restore import evidence
from tasks.store import Store
from tests.support.servers import Postgres, postgres
from tests.support.task_processes import ended, start, task

HERE, THERE = Holder("shop/prod", "shop", "server 1"), Holder("shop/staging", "shop", "server 2")


@pytest.fixture(scope="module")
def other() -> Iterator[Postgres]:
    """A second server, as of another stack."""
    with postgres() as server:
        yield server


def locks(store: Store) -> list[str]:
    return [entry.key for entry in store.entries(FOLDER)]


def test_a_second_holder_is_refused_and_learns_who_has_it(store: Store) -> None:
    with held(store, HERE), pytest.raises(TaskError, match="stack shop/prod") as refused, held(store, THERE):
        pass
    assert refused.value.code == "backup_running"
    assert not locks(store)
    with held(store, THERE) as lock:
        lock.require_held()


def test_of_many_at_once_one_has_it(store: Store) -> None:
    begin, decided, won = threading.Barrier(8), threading.Barrier(8), list[int]()

    def compete(number: int) -> None:
        begin.wait()
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(held(store, Holder(None, "shop", str(number))))
            except TaskError:
                decided.wait()
                return
            decided.wait()
            lock.require_held()
            won.append(number)

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) <= 1
    with held(store, HERE):
        pass


def test_a_dead_holders_lock_is_taken_over_and_the_holder_notices(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(store, HERE) as lost:
        # Nothing is written for longer than a lock lives, by the store's clock.
        monkeypatch.setattr(store_lock, "EXPIRES", timedelta(seconds=-1))
        with held(store, THERE) as taken:
            monkeypatch.undo()
            taken.require_held()
            with pytest.raises(TaskError) as noticed:
                lost.require_held()
            assert noticed.value.code == "lock_lost"
    assert not [key for key in locks(store) if key.endswith(".json")]


def test_a_living_holder_keeps_it_for_as_long_as_it_gives_signs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Event()
    put = store.put

    def seen(key: str, data: bytes, **how: Any) -> None:
        put(key, data, **how)
        if key.endswith(".alive"):
            given.set()

    monkeypatch.setattr(store, "put", seen)
    monkeypatch.setattr(store_lock, "RENEWED", 0.01)
    with held(store, HERE):
        assert given.wait(30)
        (lock,) = (key for key in locks(store) if key.endswith(".json"))
        if store.url.startswith("file:"):
            os.utime(Path(store.url.removeprefix("file://")) / lock, (0, 0))  # the lock itself is as old as can be
        with pytest.raises(TaskError, match="is running"), held(store, THERE):
            pass


def test_a_lock_of_the_same_running_database_is_left_over(store: Store) -> None:
    with held(store, HERE), held(store, HERE) as again:
        again.require_held()


@pytest.fixture
def shops(settings: dict[str, str], postgres: Postgres, database: str, other: Postgres) -> list[dict[str, str]]:
    """Two stacks on one store by mistake."""
    found = [settings | {"BACKUP_STACK": "shop/prod", "DATABASE_URL": postgres.url(database)}]
    return [*found, settings | {"BACKUP_STACK": "shop/staging", "DATABASE_URL": other.url()}]


def test_a_backup_does_not_clear_what_another_is_making(shops: list[dict[str, str]], postgres: Postgres) -> None:
    here, there = shops
    with postgres.connect(here["DATABASE_URL"].rpartition("/")[2]) as blocker:
        blocker.execute("CREATE TABLE orders (id int)")
        # pg_dump waits for the table, so that the backup is under way.
        blocker.autocommit = False
        blocker.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        running = start(here, "backup", "create", "--kind", "scheduled")
        with postgres.connect() as watching:
            while not watching.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert running.poll() is None
                threading.Event().wait(0.05)
        refused = task(there, "backup", "create", "--kind", "scheduled")
        assert (refused.exit_code, refused.error) == (1, "backup_running")
        assert "stack shop/prod" in refused.message
        assert "prefix" in refused.message
        blocker.rollback()
    done = ended(running, here)
    assert done.exit_code == 0, done
    assert task(here, "restore", "verify", "--backup", done.result["id"]).exit_code == 0
    assert task(there, "backup", "create", "--kind", "scheduled").exit_code == 0


def passed(backup: str, **more: Any) -> dict[str, Any]:
    return {"backup": backup, "result": "passed", "at": datetime.now(UTC).isoformat(), **more}


def test_a_restore_test_of_another_stack_or_server_opens_no_gate(
    shops: list[dict[str, str]], postgres: Postgres, other: Postgres, store: Store
) -> None:
    here, there = shops
    gate = ("backup", "gate", "--within-hours", "1")
    postgres.execute("CREATE TABLE orders (id int)", here["DATABASE_URL"].rpartition("/")[2])
    other.execute("CREATE TABLE IF NOT EXISTS orders (id int)")
    own, its = (task(shop, "backup", "create", "--kind", "manual").result for shop in shops)
    evidence.append(store, passed(own["id"]))
    evidence.append(store, passed(its["id"]))  # as of an older version: the manifest alone says whose it is
    evidence.append(store, passed(its["id"], origin=its["origin"]))
    assert task(there, *gate).result["sequence"] == 3
    assert task(here, *gate).result["backup"] == own["id"], "the newest of its own"
    store.delete([evidence.evidence_key(number) for number in (1, 2)])
    catalog.remove(store, its["id"])
    assert task(there, *gate).result["sequence"] == 3
    for stack, named in (("shop/prod", "is of stack shop/staging"), ("", "is of another server")):
        done = task(here | {"BACKUP_STACK": stack}, *gate)
        assert (done.exit_code, done.error) == (1, "not_proven")
        assert named in done.message


def test_a_manifest_says_where_it_is_from(shops: list[dict[str, str]]) -> None:
    made = [task(shop, "backup", "create", "--kind", "manual").result["origin"] for shop in shops]
    assert [origin["stack"] for origin in made] == ["shop/prod", "shop/staging"]
    assert made[0]["server"].isdigit()
    assert made[0]["server"] != made[1]["server"]


def test_a_manifest_of_an_older_version_is_read(shops: list[dict[str, str]], store: Store) -> None:
    id_ = task(shops[0], "backup", "create", "--kind", "manual").result["id"]
    old = json.loads(store.get(manifest_key(id_)))
    del old["origin"]
    store.put(manifest_key(id_), json.dumps(old).encode())
    assert catalog.find(store, id_).origin is None


def test_what_is_not_whole_is_not_listed(shops: list[dict[str, str]], store: Store) -> None:
    ids = [task(shops[0], "backup", "create", "--kind", "manual").result["id"] for _ in range(2)]
    store.delete([f"backups/{ids[1]}/{ids[1]}.dump"])
    done = task(shops[0], "backup", "list")
    assert [row["id"] for row in done.result] == [ids[0]]
    assert f"{ids[1]} is not whole" in done.progress


def test_a_restore_of_anothers_backup_has_to_be_asked_for(shops: list[dict[str, str]], postgres: Postgres) -> None:
    here, there = shops
    id_ = task(there, "backup", "create", "--kind", "manual").result["id"]
    into = ("restore", "into", "--backup", id_, "--database", f"from_{os.urandom(3).hex()}")
    for stack, named in (("shop/prod", "of stack shop/staging"), ("", "of another server")):
        done = task(here | {"BACKUP_STACK": stack}, *into)
        assert (done.exit_code, done.error) == (2, "backup_of_another")
        assert named in done.message
        assert "--of-another" in done.message
    done = task(here, "restore", "prepare", "--backup", id_)
    assert (done.exit_code, done.error) == (2, "backup_of_another")
    done = task(here, *into, "--of-another")
    assert done.exit_code == 0, done
    postgres.execute(f"DROP DATABASE {done.result['database']}")
    own = task(here, "backup", "create", "--kind", "manual").result["id"]
    done = task(here, "restore", "into", "--backup", own, "--database", f"from_{os.urandom(3).hex()}")
    assert done.exit_code == 0, done
    postgres.execute(f"DROP DATABASE {done.result['database']}")


def test_a_restore_test_proves_the_newest_backup_of_its_own_stack(
    shops: list[dict[str, str]], postgres: Postgres
) -> None:
    here, there = shops
    own = task(here, "backup", "create", "--kind", "manual").result["id"]
    task(there, "backup", "create", "--kind", "manual")
    with postgres.database() as scratch:
        test = {"RESTORE_DATABASE_URL": postgres.url(scratch)}
        without_live = {key: value for key, value in here.items() if key != "DATABASE_URL"}
        assert task(without_live | test, "restore", "test-begin").result["backup"] == own
        assert (
            json.loads((Path(here["SCRATCH"]) / "attempt.json").read_text())["facts"]["origin"]["stack"] == "shop/prod"
        )


def test_who_may_wait_gets_the_lock_when_it_is_released(store: Store) -> None:
    """R1: a scheduled backup of another stack runs when a release has to make its own."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        with held(store, HERE):
            waiting = pool.submit(lambda: stack.enter_context(held(store, THERE, Patience(30))))
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(30).require_held()


def test_who_has_waited_long_enough_learns_who_has_it_and_how_long_it_was(store: Store) -> None:
    waiting = held(store, THERE, Patience(1))
    with held(store, HERE), pytest.raises(TaskError, match="did not end within 1 s") as refused, waiting:
        pass
    assert (refused.value.code, "stack shop/prod" in str(refused.value)) == ("backup_running", True)
