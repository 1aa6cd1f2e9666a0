"""What restore tests have proven, as far as listing, cleaning up and the gate need to know.

The records are written by `restore test-conclude` and, for failures, `restore test-begin`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tasks.errors import TaskError
from tasks.store import Store

FOLDER = "evidence/"


def evidence_key(sequence: int) -> str:
    return f"{FOLDER}{sequence:08}.json"


@dataclass(frozen=True)
class Proof:
    """One restore test. These are the fields that a record must have; it may have more."""

    sequence: int
    backup: str
    passed: bool
    """`result` in the record: "passed" or "failed"."""
    at: datetime
    """When it ended."""
    reason: str | None
    """Why it failed."""
    rto_seconds: float | None
    rpo_seconds: float | None


def proofs(store: Store) -> list[Proof]:
    """Every restore test, oldest first."""
    return [_read(store, entry.key) for entry in store.entries(FOLDER) if entry.key.endswith(".json")]


def newest_passed(found: Iterable[Proof]) -> dict[str, Proof]:
    """Backup id → the newest test that it passed."""
    return {proof.backup: proof for proof in found if proof.passed}


def _read(store: Store, key: str) -> Proof:
    try:
        raw = json.loads(store.get(key))
        return Proof(
            sequence=int(raw["sequence"]),
            backup=str(raw["backup"]),
            passed={"passed": True, "failed": False}[raw["result"]],
            at=datetime.fromisoformat(raw["at"]),
            reason=raw.get("reason"),
            rto_seconds=raw.get("rto_seconds"),
            rpo_seconds=raw.get("rpo_seconds"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError("evidence_invalid", f"{store.url}: {key} is no record of a restore test: {error}") from error
