"""What restore tests have proven, as far as listing, cleaning up and the gate need to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.backup.manifest import Origin
from tasks.errors import TaskError
from tasks.restore import evidence
from tasks.store import Store


@dataclass(frozen=True)
class Proof:
    """One restore test: the fields that an evidence record has to have; it may have more."""

    sequence: int
    backup: str | None
    """None when the test failed before it had chosen one."""
    passed: bool
    """`result` in the record: "passed" or "failed"."""
    at: datetime
    """When it ended."""
    reason: str | None
    """Why it failed."""
    rto_seconds: float | None
    rpo_seconds: float | None
    origin: Origin | None
    """Where the backup is from; None in a record of an older version."""


def proofs(store: Store) -> list[Proof]:
    """Every restore test, oldest first."""
    return [_proof(record) for record in evidence.records(store)]


def trusted_proofs(store: Store) -> list[Proof]:
    """The same, after the chain was verified: `evidence_broken` if a record was changed or removed."""
    return [_proof(record) for record in evidence.verify(store)]


def newest_passed(found: Iterable[Proof]) -> dict[str, Proof]:
    """Backup id → the newest test that it passed."""
    return {proof.backup: proof for proof in found if proof.passed and proof.backup}


def _proof(record: Mapping[str, Any]) -> Proof:
    try:
        return Proof(
            sequence=int(record["sequence"]),
            backup=record["backup"],
            passed={"passed": True, "failed": False}[record["result"]],
            at=datetime.fromisoformat(record["at"]),
            reason=record.get("reason"),
            rto_seconds=record.get("rto_seconds"),
            rpo_seconds=record.get("rpo_seconds"),
            origin=Origin(**origin) if (origin := record.get("origin")) else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TaskError(
            "evidence_broken", f"evidence {record.get('sequence', '?')} is no record of a restore test: {error!r}"
        ) from error
