"""The record of restore tests, beside the backups: evidence/<sequence>.json, each bound to the one before it.

A record has the sha256 of its own content (`sha256`, over the canonical JSON of everything else) and that of its
predecessor (`previous`). Changing or removing a record in the middle breaks every one after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Store
from tasks.store.base import Exists

FOLDER = "evidence/"
BEGINNING = "0" * 64
"""`previous` of the first record."""

_READERS = 8

Record = dict[str, Any]


def evidence_key(sequence: int) -> str:
    return f"{FOLDER}{sequence:08}.json"


def digest(record: Mapping[str, Any]) -> str:
    """The sha256 of everything in the record but that sum itself; key order and spacing do not count."""
    content = {key: value for key, value in record.items() if key != "sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def append(store: Store, content: Mapping[str, Any]) -> Record:
    """Write the next record. Of two writers at once one takes the number after the other's."""
    while True:
        last = _last(store)
        record = {
            **content,
            "sequence": last["sequence"] + 1 if last else 1,
            "previous": last["sha256"] if last else BEGINNING,
        }
        record["sha256"] = digest(record)
        try:
            store.put(evidence_key(record["sequence"]), _written(record), new=True)
        except Exists:
            say(f"evidence {record['sequence']} was just written by another process; using the next number")
            continue
        return record


def records(store: Store) -> Iterator[Record]:
    """All of them, oldest first, as they are; `verify` checks whether they are authentic."""
    for _, record in _all(store):
        yield record


def since(store: Store, when: datetime) -> Iterator[Record]:
    """The records of tests that ended after `when`, newest first."""
    for key in reversed(_keys(store)):
        record = _read(store, key)
        if datetime.fromisoformat(record["at"]) < when:
            return
        yield record


def verify(store: Store) -> list[Record]:
    """Every record, after each proved to be what was written; raises `evidence_broken` at the first that is not."""
    before: Record | None = None
    found: list[Record] = []
    for key, record in _all(store):
        expected = before["sequence"] + 1 if before else 1
        if key != evidence_key(expected) or record.get("sequence") != expected:
            raise _broken(key, f"{evidence_key(expected)} is expected here: a record was removed or renamed")
        if record.get("sha256") != digest(record):
            raise _broken(key, "its content was changed: it does not match its own sha256")
        if record.get("previous") != (before["sha256"] if before else BEGINNING):
            raise _broken(key, "it does not match the hash of the record before it: one of the two was replaced")
        found.append(record)
        before = record
    return found


def _written(record: Record) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _keys(store: Store) -> list[str]:
    return [entry.key for entry in store.entries(FOLDER) if entry.key.endswith(".json")]


def _all(store: Store) -> Iterator[tuple[str, Record]]:
    """Each with its key, oldest first."""
    keys = _keys(store)
    with ThreadPoolExecutor(_READERS) as pool:
        yield from zip(keys, pool.map(lambda key: _read(store, key), keys), strict=True)


def _last(store: Store) -> Record | None:
    keys = _keys(store)
    return _read(store, keys[-1]) if keys else None


def _read(store: Store, key: str) -> Record:
    try:
        record = json.loads(store.get(key))
    except ValueError as error:
        raise _broken(key, f"it is not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("sequence"), int) or "sha256" not in record:
        raise _broken(key, "it is not an evidence record")
    return record


def _broken(key: str, why: str) -> TaskError:
    return TaskError(
        "evidence_broken", f"{key}: {why}. Do not trust this or later records; check who can write to the store."
    )
