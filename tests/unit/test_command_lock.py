"""The lock for a whole command, on Leases in memory with the API server's rule for concurrent writes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from lightkube.resources.coordination_v1 import Lease

from ops.errors import Interrupted
from ops.stack import command_lock
from ops.stack.command_lock import CommandLock, Holder, read_holder
from ops.stack.locks import Locked
from settings.names import COMMAND_LOCK
from tests.support.lease_store import LeaseStore


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> LeaseStore:
    monkeypatch.setattr(command_lock, "SECONDS", 1)
    monkeypatch.setattr(command_lock, "_RENEW_SECONDS", 0.1)
    return LeaseStore()


@pytest.fixture
def first(store: LeaseStore) -> Iterator[CommandLock]:
    lock = CommandLock(store, "deploy shop:2")
    lock.acquire()
    yield lock
    lock.release()


def lease(store: LeaseStore) -> Lease:
    found = store.read_lease(COMMAND_LOCK)
    assert found is not None
    return found


def silence(store: LeaseStore, **changes: object) -> None:
    """Replace the holder by one that renews no more, with these changes of what it says about itself."""
    found = lease(store)
    assert found.spec
    assert found.metadata
    assert found.metadata.annotations
    said = json.loads(found.metadata.annotations[command_lock._COMMAND]) | changes
    found.metadata.annotations[command_lock._COMMAND] = json.dumps(said)
    found.spec.holderIdentity = "alice@elsewhere/1"
    assert store.write_lease(found)


def test_one_command_at_a_time_and_the_second_says_who(store: LeaseStore, first: CommandLock) -> None:
    with pytest.raises(Locked, match=r"`deploy shop:2` by \S+@\S+ since \d{4}-\d\d-\d\d .* changed nothing"):
        CommandLock(store, "lockdown").acquire()
    first.require_held()
    assert (read_holder(store) or {})["doing"] == "deploy shop:2"
    first.release()
    assert read_holder(store) is None
    CommandLock(store, "lockdown").acquire()
    assert (read_holder(store) or {})["doing"] == "lockdown"


def test_who_waits_gets_the_lock_when_it_is_released(store: LeaseStore, first: CommandLock) -> None:
    silence(store)
    second = CommandLock(store, "lockdown")
    waiting = threading.Thread(target=second.acquire)
    waiting.start()
    found = lease(store)
    assert found.spec
    found.spec.holderIdentity = ""
    assert store.write_lease(found)
    waiting.join()
    assert (read_holder(store) or {})["doing"] == "lockdown"


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_holder_that_renews_no_more_is_replaced_whatever_its_clock_says(
    store: LeaseStore, first: CommandLock, hours: int
) -> None:
    silence(store)
    found = lease(store)
    assert found.spec
    found.spec.renewTime = datetime.now(UTC) + timedelta(hours=hours, microseconds=1)
    assert store.write_lease(found)
    CommandLock(store, "lockdown").acquire()
    assert (read_holder(store) or {})["doing"] == "lockdown"


def test_a_holder_whose_process_has_ended_is_replaced_at_once(
    store: LeaseStore, first: CommandLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_lock, "SECONDS", 3600)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = command_lock.Process.find(process.pid)
    assert known is not None
    silence(store, process=known.to_dict())
    process.kill()
    process.wait()
    CommandLock(store, "lockdown").acquire()
    assert (read_holder(store) or {})["doing"] == "lockdown"


def test_a_holder_of_another_container_with_the_same_host_name_is_waited_for(
    store: LeaseStore, first: CommandLock
) -> None:
    silence(store, process={"pid": 999_999_999, "boot": "b", "pidNamespace": "pid:[1]", "started": "1"})
    said: list[str] = []
    CommandLock(store, "lockdown", say=said.append).acquire()
    assert any("has not renewed" in text for text in said)


def test_a_rule_may_know_that_the_holder_has_ended(
    store: LeaseStore, first: CommandLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_lock, "SECONDS", 3600)
    silence(store, host="pod-of-yesterday")
    CommandLock(store, "rollback", is_gone=lambda holder: holder.host == "pod-of-yesterday").acquire()
    assert (read_holder(store) or {})["doing"] == "rollback"


def test_who_sees_another_holder_stops_its_engine_and_changes_nothing_more(store: LeaseStore) -> None:
    stopped = threading.Event()
    lock = CommandLock(store, "deploy shop:2", stop=stopped.set)
    lock.acquire()
    silence(store, doing="rollback")
    assert stopped.wait(10)
    with pytest.raises(Interrupted, match=r"`rollback` by .* took over this stack"):
        lock.require_held()
    lock.release()
    assert (read_holder(store) or {})["doing"] == "rollback", "the other one's lock stays"


def test_an_api_server_that_does_not_answer_for_a_while_does_not_end_the_command(
    store: LeaseStore, first: CommandLock
) -> None:
    before = lease(store)
    store.reachable = False
    assert store.refused.wait(10)
    store.reachable = True
    first.require_held()
    after = lease(store)
    assert before.spec
    assert after.spec
    assert after.spec.renewTime != before.spec.renewTime


def test_a_stack_without_a_namespace_has_no_lock() -> None:
    class Nothing(LeaseStore):
        def write_lease(self, lease: Lease) -> None:
            return None

    lock = CommandLock(Nothing(), "deploy shop:1")
    lock.acquire()
    lock.require_held()
    lock.release()


def test_of_many_that_begin_at_once_one_gets_the_lock(store: LeaseStore) -> None:
    outcomes: list[str] = []
    locks = [CommandLock(store, f"command {number}") for number in range(8)]

    def begin(lock: CommandLock) -> None:
        try:
            lock.acquire()
            outcomes.append("held")
        except Locked:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=[lock]) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + ["refused"] * 7
    for lock in locks:
        lock.release()


def test_a_lease_that_something_else_wrote_is_respected(store: LeaseStore) -> None:
    other = Lease.from_dict(
        {"metadata": {"name": COMMAND_LOCK}, "spec": {"holderIdentity": "someone", "leaseDurationSeconds": 15}}
    )
    assert store.write_lease(other)
    assert str(Holder.of(lease(store))) == "`unknown` by unknown@someone since unknown"


def test_with_patience_a_command_waits_for_the_end_of_another(store: LeaseStore, first: CommandLock) -> None:
    second = CommandLock(store, "rollback", patience=60)
    waiting = threading.Thread(target=second.acquire)
    waiting.start()
    for _ in zip(range(3), store.watch_lease(COMMAND_LOCK, 10), strict=False):  # the first one renews meanwhile
        assert (read_holder(store) or {})["doing"] == "deploy shop:2"
    first.release()
    waiting.join(10)
    assert (read_holder(store) or {})["doing"] == "rollback"
    second.release()
