"""`backup cleanup`: delete what retention does not keep."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.backup import catalog, retention
from tasks.backup.proofs import newest_passed, proofs
from tasks.environment import Environment
from tasks.progress import say
from tasks.store import open_store


def cleanup(environment: Environment, *, dry_run: bool) -> dict[str, Any]:
    """Delete, or with `dry_run` only report. {deleted: [id], kept: [{id, why}], dry_run}."""
    rules = retention.Retention.from_environment(environment)
    store = open_store(environment)
    backups = catalog.manifests(store)
    now = datetime.now(UTC)
    retention.check_clock(backups, now, store.clock())
    verdicts = retention.decide(
        backups,
        rules,
        now,
        proven=newest_passed(proofs(store)),
        needed=environment.words("BACKUP_KEEP_IDS"),
    )
    going = [verdict.manifest for verdict in verdicts if not verdict.why]
    # Oldest first: whatever interrupts this, the newer ones are still there.
    for manifest in reversed(going):
        if not dry_run:
            catalog.remove(store, manifest.id)
        say(f"{'would delete' if dry_run else 'deleted'} {manifest.id}")
    return {
        "deleted": [manifest.id for manifest in going],
        "kept": [{"id": v.manifest.id, "why": list(v.why)} for v in verdicts if v.why],
        "dry_run": dry_run,
    }
