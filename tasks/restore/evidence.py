"""The record of restore tests, beside the backups: evidence/<sequence>.json, each bound to the one before it.

A record has the sha256 of its own content (`sha256`, over the canonical JSON of everything else) and that of its
predecessor (`previous`). Changing or removing a record in the middle breaks every one after it. With EVIDENCE_KEY, each
also has an HMAC of its hash (`mac`), which a client that has only the store cannot make. Its newest end is remembered
in the live database (tasks/backup/evidence_head.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Store
from tasks.store.base import Exists

FOLDER = "evidence/"
BEGINNING = "0" * 64
"""`previous` of the first record."""

BEGUN = "begun anew"
"""`result` of a record from which the chain begins anew."""

_READERS = 8

Record = dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """The verified records."""

    records: list[Record]
    hashes: dict[int, str]
    """Of these and of the record from which the chain began anew, by number."""


def evidence_key(sequence: int) -> str:
    return f"{FOLDER}{sequence:08}.json"


def digest(record: Mapping[str, Any]) -> str:
    """The sha256 of everything in the record but that sum and its key; key order and spacing do not count."""
    content = {key: value for key, value in record.items() if key not in ("sha256", "mac")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def append(store: Store, content: Mapping[str, Any]) -> Record:
    """Write the next record. Of two writers at once one takes the number after the other's."""
    while True:
        last = _last(store)
        record = _sealed(
            {
                **content,
                "sequence": last["sequence"] + 1 if last else 1,
                "previous": last["sha256"] if last else BEGINNING,
            }
        )
        try:
            store.put(evidence_key(record["sequence"]), _written(record), new=True)
        except Exists:
            say(f"evidence {record['sequence']} was just written by another process; using the next number")
            continue
        return record


def records(store: Store) -> Iterator[Record]:
    """All of them, oldest first, as they are; `verify` checks whether they are authentic."""
    everything, start = _all(store)
    for place, (_, record) in enumerate(everything):
        if isinstance(record, TaskError):
            if place >= start:
                raise record
        elif not _begins(record):
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
    return chain(store).records


def chain(store: Store) -> Chain:
    """The same, with where it begins."""
    everything, start = _all(store)
    found = list(_counting(everything[start:]))
    before: Record | None = None
    keyed = False
    for key, record in found:
        # The oldest may be gone: a bucket's lifecycle expires them. What follows is bound to each other nevertheless.
        expected = before["sequence"] + 1 if before else record["sequence"]
        if key != evidence_key(expected) or record.get("sequence") != expected:
            raise _broken(key, f"{evidence_key(expected)} is expected here: a record was removed or renamed")
        if record.get("sha256") != digest(record):
            raise _broken(key, "its content was changed: it does not match its own sha256")
        if before and record.get("previous") != before["sha256"]:
            raise _broken(key, "it does not match the hash of the record before it: one of the two was replaced")
        if before is None and expected == 1 and record.get("previous") != BEGINNING:
            raise _broken(key, "it is the first record and names one before it: it was replaced")
        if (key_ := _secret()) is not None:
            if "mac" in record and not _is_authentic(record, key_):
                raise _broken(key, "its key is not this stack's: it was not written by this stack")
            if keyed and "mac" not in record:
                raise _broken(key, "it has no key, and those before it have: it was not written by this stack")
            keyed = keyed or "mac" in record
        before = record
    inside = [record for _, record in found if not keyed or "mac" in record]
    trusted = inside if keyed or _secret() is None else []
    if found and not start and found[0][1]["sequence"] > 1:
        say(f"warning: evidence begins with record {found[0][1]['sequence']}: older ones were removed from the store")
    if len(trusted) < len(found):
        say(f"warning: {len(found) - len(trusted)} records have no key and count as no proof (EVIDENCE_KEY)")
    hashes = {record["sequence"]: record["sha256"] for record in trusted}
    return Chain([record for record in trusted if not _begins(record)], hashes)


def begin_anew(store: Store, reason: str, after: int = 0) -> Record:
    """Write a record from which the chain is verified from now on; the ones before are kept, and trusted no longer."""
    numbers = [int(found[1]) for key in _keys(store) if (found := re.search(r"(\d+)\.json$", key))]
    content = {"result": BEGUN, "backup": None, "at": datetime.now(UTC).isoformat(), "reason": reason}
    record = _sealed({**content, "sequence": max([after, *numbers]) + 1, "previous": BEGINNING})
    store.put(evidence_key(record["sequence"]), _written(record), new=True)
    return record


def _begins(record: Mapping[str, Any]) -> bool:
    return record.get("result") == BEGUN


def _is_beginning(record: Mapping[str, Any]) -> bool:
    """Whether it was written by `begin_anew`: where there is a key, with it."""
    key = _secret()
    whole = _begins(record) and record.get("previous") == BEGINNING and record.get("sha256") == digest(record)
    return whole and (key is None or _is_authentic(record, key))


def _secret() -> bytes | None:
    """EVIDENCE_KEY, which a client that can only write to the store does not have."""
    return os.environ.get("EVIDENCE_KEY", "").encode() or None


def _mac(record: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, str(record["sha256"]).encode(), hashlib.sha256).hexdigest()


def _is_authentic(record: Mapping[str, Any], key: bytes) -> bool:
    return hmac.compare_digest(str(record.get("mac", "")), _mac(record, key))


def _sealed(record: Record) -> Record:
    record["sha256"] = digest(record)
    if (key := _secret()) is not None:
        record["mac"] = _mac(record, key)
    return record


def _written(record: Record) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _keys(store: Store) -> list[str]:
    return [entry.key for entry in store.entries(FOLDER) if entry.key.endswith(".json")]


def _all(store: Store) -> tuple[list[tuple[str, Record | TaskError]], int]:
    """Each with its key, oldest first, or what is wrong with it; and the place from which they count."""
    keys = _keys(store)

    def read(key: str) -> Record | TaskError:
        try:
            return _read(store, key)
        except TaskError as error:
            if error.code != "evidence_broken":
                raise
            return error

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(zip(keys, pool.map(read, keys), strict=True))
    begun = [place for place, (_, one) in enumerate(found) if not isinstance(one, TaskError) and _is_beginning(one)]
    return found, begun[-1] if begun else 0


def _counting(found: list[tuple[str, Record | TaskError]]) -> Iterator[tuple[str, Record]]:
    for key, record in found:
        if isinstance(record, TaskError):
            raise record
        yield key, record


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
        "evidence_broken",
        f"{key}: {why}. Do not trust this or later records; check who can write to the store. When it is known why, "
        "`runbook backup evidence begin-anew --reason …` begins a new chain (docs/backups.md)",
    )
