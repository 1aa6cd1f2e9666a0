"""The chain of restore test records: verification finds a changed record."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import TaskError
from tasks.restore import evidence
from tasks.store import Store
from tests.support.servers import Postgres
from tests.support.task_processes import task


def record(number: int = 0) -> dict[str, Any]:
    return {"backup": f"b{number}", "result": "passed", "at": datetime.now(UTC).isoformat(), "reason": "é ☃"}


def write_three(store: Store) -> None:
    for number in range(3):
        evidence.append(store, record(number))


def test_records_are_bound_to_each_other(settings: dict[str, str], store: Store) -> None:
    write_three(store)
    first, second, third = evidence.verify(store)
    assert [one["sequence"] for one in (first, second, third)] == [1, 2, 3]
    assert first["previous"] == "0" * 64
    assert (second["previous"], third["previous"]) == (first["sha256"], second["sha256"])
    done = task(settings, "evidence", "verify")
    assert done.result == {"records": 3, "passed": 3, "failed": 0, "head": third["sha256"]}


@pytest.mark.usefixtures("store")
def test_no_records_are_no_error(settings: dict[str, str]) -> None:
    assert task(settings, "evidence", "verify").result["records"] == 0


def test_two_writers_at_once_make_one_chain(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: evidence.append(store, record(number)), range(12)))
    found = evidence.verify(store)
    assert len(found) == 12
    assert {one["backup"] for one in found} == {f"b{number}" for number in range(12)}


def change(store: Store, sequence: int, how: Callable[[dict[str, Any]], None], *, seal: bool) -> None:
    key = evidence.evidence_key(sequence)
    content = json.loads(store.get(key))
    how(content)
    if seal:
        content["sha256"] = evidence.digest(content)
    store.put(key, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (lambda s: change(s, 2, lambda c: c.update(result="failed"), seal=False), "00000002"),
        (lambda s: change(s, 2, lambda c: c.update(result="failed"), seal=True), "00000003"),
        (lambda s: change(s, 1, lambda c: c.update(extra=1), seal=False), "00000001"),
        (lambda s: s.delete([evidence.evidence_key(2)]), "00000003"),
        (lambda s: s.put(evidence.evidence_key(2), b"not JSON"), "00000002"),
        (lambda s: s.put(evidence.evidence_key(2), s.get(evidence.evidence_key(1))), "00000002"),
    ],
    ids=["changed", "changed and sealed again", "added to", "removed", "garbage", "replaced"],
)
def test_tampering_is_named(
    settings: dict[str, str], store: Store, tamper: Callable[[Store], None], named: str
) -> None:
    write_three(store)
    tamper(store)
    done = task(settings, "evidence", "verify")
    assert (done.exit_code, done.error) == (1, "evidence_broken")
    assert f"evidence/{named}.json" in done.message


def test_nothing_is_added_to_what_is_no_record(store: Store) -> None:
    write_three(store)
    store.put(evidence.evidence_key(3), b"{}")
    with pytest.raises(TaskError, match="00000003") as raised:
        evidence.append(store, record())
    assert raised.value.code == "evidence_broken"


# -- the oldest expire, the chain begins anew ---------------------------------------------------------------


def test_a_lifecycle_that_expires_the_oldest_is_reported_and_breaks_nothing(
    settings: dict[str, str], store: Store
) -> None:
    write_three(store)
    store.delete([evidence.evidence_key(1)])
    done = task(settings, "evidence", "verify")
    assert (done.exit_code, done.result["records"]) == (0, 2)
    assert "begins with record 2" in done.progress
    evidence.append(store, record(3))
    assert [one["sequence"] for one in evidence.verify(store)] == [2, 3, 4]


def test_after_a_break_the_chain_begins_anew(settings: dict[str, str], store: Store) -> None:
    write_three(store)
    store.delete([evidence.evidence_key(2)])
    assert "begin-anew" in task(settings, "evidence", "verify").message
    done = task(settings, "evidence", "begin-anew", "--reason", "the bucket was moved")
    assert (done.exit_code, done.result["sequence"]) == (0, 4)
    assert task(settings, "evidence", "verify").result["records"] == 0
    evidence.append(store, record(9))
    assert [one["backup"] for one in evidence.verify(store)] == ["b9"]
    assert {one["backup"] for one in evidence.records(store)} == {"b0", "b2", "b9"}


def test_it_begins_anew_behind_garbage(settings: dict[str, str], store: Store) -> None:
    write_three(store)
    store.put(evidence.evidence_key(2), b"not JSON")
    assert task(settings, "evidence", "verify").error == "evidence_broken"
    assert task(settings, "evidence", "begin-anew", "--reason", "disk").exit_code == 0
    evidence.append(store, record(9))
    assert [one["backup"] for one in evidence.verify(store)] == ["b9"]


# -- the key ------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("EVIDENCE_KEY", "k" * 40)
    return settings | {"EVIDENCE_KEY": "k" * 40}


def rewrite(store: Store, sequences: list[int], **changes: Any) -> None:
    """As a client with the store and without the key: the hashes are right."""
    previous: str | None = None
    for sequence in sequences:
        key = evidence.evidence_key(sequence)
        content = json.loads(store.get(key))
        content |= changes if sequence == sequences[0] else {}
        content["previous"] = previous or content["previous"]
        content["sha256"] = previous = evidence.digest(content)
        store.put(key, json.dumps(content).encode())


def test_the_stores_holder_cannot_rewrite_a_chain_with_a_key(keyed: dict[str, str], store: Store) -> None:
    write_three(store)
    assert task(keyed, "evidence", "verify").result["records"] == 3
    rewrite(store, [2, 3], result="failed")
    done = task(keyed, "evidence", "verify")
    assert done.error == "evidence_broken"
    assert "00000002" in done.message


def test_the_stores_holder_cannot_add_a_record(
    keyed: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(store)
    monkeypatch.delenv("EVIDENCE_KEY")
    evidence.append(store, record(4))
    done = task(keyed, "evidence", "verify")
    assert done.error == "evidence_broken"
    assert "00000004" in done.message


def test_the_stores_holder_cannot_begin_anew(
    keyed: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(store)
    monkeypatch.delenv("EVIDENCE_KEY")
    evidence.begin_anew(store, "none of your business")
    assert task(keyed, "evidence", "verify").error == "evidence_broken"


def test_records_of_before_the_key_count_as_no_proof(
    settings: dict[str, str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_three(store)
    key = {"EVIDENCE_KEY": "k" * 40}
    done = task(settings | key, "evidence", "verify")
    assert done.result["records"] == 0
    assert "3 records have no key" in done.progress
    monkeypatch.setenv("EVIDENCE_KEY", key["EVIDENCE_KEY"])
    evidence.append(store, record(9))
    assert [one["backup"] for one in evidence.verify(store)] == ["b9"]


# -- the newest end -----------------------------------------------------------------------------------------


@pytest.fixture
def live(keyed: dict[str, str], postgres: Postgres, database: str) -> dict[str, str]:
    postgres.execute("CREATE TABLE orders (id int)", database)
    return keyed | {"DATABASE_URL": postgres.url(database)}


GATE = ("backup", "gate", "--within-hours", "1")


def test_a_newest_end_that_is_cut_is_noticed(live: dict[str, str], store: Store) -> None:
    write_three(store)
    assert task(live, *GATE).result["sequence"] == 3
    store.delete([evidence.evidence_key(3)])
    done = task(live, *GATE)
    assert (done.exit_code, done.error) == (1, "evidence_broken")
    assert "00000003" in done.message
    assert "begin-anew" in done.message
    assert task(live, "evidence", "begin-anew", "--reason", "a mistake of mine").result["sequence"] == 4
    assert task(live, *GATE).error == "not_proven"
    evidence.append(store, record(9))
    assert task(live, *GATE).result["backup"] == "b9"


def test_an_end_that_is_cut_and_written_anew_is_noticed(live: dict[str, str], store: Store) -> None:
    write_three(store)
    assert task(live, *GATE).exit_code == 0
    # By a pod with the key, as a restored bucket would have it.
    store.delete([evidence.evidence_key(3)])
    evidence.append(store, record(7))
    assert task(live, *GATE).error == "evidence_broken"


def test_all_gone_is_noticed_and_the_oldest_gone_is_not_an_error(live: dict[str, str], store: Store) -> None:
    write_three(store)
    assert task(live, *GATE).exit_code == 0
    store.delete([evidence.evidence_key(1)])
    assert task(live, *GATE).exit_code == 0
    evidence.append(store, record(4))
    store.delete([evidence.evidence_key(2), evidence.evidence_key(3)])
    assert task(live, *GATE).exit_code == 0
    store.delete([evidence.evidence_key(4)])
    assert task(live, *GATE).error == "evidence_broken"


def test_a_backup_remembers_the_newest_end_and_is_made_in_any_case(
    live: dict[str, str], store: Store, tmp_path: Path
) -> None:
    write_three(store)
    settings = live | {"SCRATCH": str(tmp_path)}
    assert task(settings, "backup", "create", "--kind", "scheduled").exit_code == 0
    store.delete([evidence.evidence_key(3)])
    done = task(settings, "backup", "create", "--kind", "scheduled")
    assert done.exit_code == 0
    assert "00000003" in done.progress
    assert task(live, *GATE).error == "evidence_broken"
