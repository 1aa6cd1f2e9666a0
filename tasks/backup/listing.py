"""`backup list`: which backups there are and which of them are proven."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tasks.backup import catalog
from tasks.backup.manifest import Manifest
from tasks.backup.proofs import Proof, newest_passed, proofs
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.progress import say, size
from tasks.store import Store, open_store


def listing(environment: Environment) -> list[dict[str, Any]]:
    """Newest first."""
    store = open_store(environment)
    tests = _proofs(store)
    proven = newest_passed(tests)
    last = {test.backup: test for test in tests if test.backup}
    now = datetime.now(UTC)
    return [
        _row(manifest, now, proven.get(manifest.id), last.get(manifest.id))
        for manifest in _whole(store, catalog.manifests(store))
    ]


def _whole(store: Store, manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """Those of which every file is there; another one is named on standard error and left out."""
    contents = catalog.contents(store)
    for manifest in manifests:
        there = contents.get(manifest.id, [])
        if gone := [file.name for file in manifest.files if manifest.key(file) not in there]:
            say(f"warning: backup {manifest.id} is not whole, and left out: {', '.join(gone)} is not in {store.url}")
        else:
            yield manifest


def _proofs(store: Store) -> list[Proof]:
    try:
        return proofs(store)
    except TaskError as error:
        if error.code != "evidence_broken":
            raise
        # An operator who needs a backup to restore still needs the list.
        say(f"warning: nothing is shown as proven: {error}")
        return []


def table(rows: list[dict[str, Any]]) -> str:
    """The same for people."""
    if not rows:
        return "no backups"
    lines = [f"{'BACKUP':37} {'AGE':>7} {'SIZE':>10} {'LEVEL':>5}  PROVEN"]
    for row in rows:
        level = "" if row["schema_level"] is None else row["schema_level"]
        lines.append(
            f"{row['id']:37} {_age(row['age_seconds']):>7} {size(row['size_bytes']):>10} {level!s:>5}  {_proven(row)}"
        )
    return "\n".join(lines)


def _row(manifest: Manifest, now: datetime, proof: Proof | None, last: Proof | None) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "created_at": _iso(manifest.created_at),
        "age_seconds": round((now - manifest.created_at).total_seconds()),
        "size_bytes": manifest.size_bytes,
        "database_bytes": manifest.database_bytes,
        "schema_level": manifest.schema_level,
        "release": asdict(manifest.release) if manifest.release else None,
        "encrypted": manifest.encrypted,
        "proven_at": _iso(proof.at) if proof else None,
        "proven_by": proof.sequence if proof else None,
        "last_test": _test(last) if last else None,
    }


def _test(proof: Proof) -> Mapping[str, Any]:
    return {
        "at": _iso(proof.at),
        "result": "passed" if proof.passed else "failed",
        "reason": proof.reason,
        "rto_seconds": proof.rto_seconds,
        "rpo_seconds": proof.rpo_seconds,
    }


def _proven(row: Mapping[str, Any]) -> str:
    if row["last_test"] and row["last_test"]["result"] == "failed":
        return f"failed {row['last_test']['at'][:16]}: {row['last_test']['reason']}"
    return f"{row['proven_at'][:16]} by test {row['proven_by']}" if row["proven_at"] else "not yet"


def _age(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
