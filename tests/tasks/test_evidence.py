"""The chain of restore test records: verification finds a changed record."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.restore import evidence
from tasks.store import Store, open_store
from tests.support.servers import S3
from tests.support.task_processes import task


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "folder":
        return {"BACKUP_STORE": f"file://{tmp_path}"}
    server: S3 = request.getfixturevalue("s3")
    return server.environment(request.getfixturevalue("bucket"))


@pytest.fixture
def store(settings: dict[str, str]) -> Store:
    return open_store(Environment(settings))


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
        (lambda s: s.delete([evidence.evidence_key(1)]), "00000002"),
        (lambda s: s.put(evidence.evidence_key(2), b"not JSON"), "00000002"),
        (lambda s: s.put(evidence.evidence_key(2), s.get(evidence.evidence_key(1))), "00000002"),
    ],
    ids=["changed", "changed and sealed again", "added to", "removed", "beginning removed", "garbage", "replaced"],
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
