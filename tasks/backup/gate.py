"""`backup gate`: no migration unless a restore has lately been proven to work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.backup.evidence_head import check_end
from tasks.backup.proofs import trusted_proofs
from tasks.backup.source import open_source
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.progress import say
from tasks.restore import evidence
from tasks.store import open_store


def gate(environment: Environment, *, within_hours: int, without_proof: str | None) -> dict[str, Any]:
    """{allowed_by: "proof" | "empty database" | "reason", …}, or `not_proven`."""
    if without_proof:
        say(f"warning: the restore proof is skipped: {without_proof}")
        return {"allowed_by": "reason", "reason": without_proof}
    source = open_source(environment)
    if source.is_empty():
        return {"allowed_by": "empty database"}
    source.require_readable()
    store = open_store(environment)
    check_end(environment, store, evidence.chain(store))
    passed = [proof for proof in trusted_proofs(store) if proof.passed]
    if not passed:
        raise _not_proven("no restore test has ever passed")
    newest = passed[-1]
    now = datetime.now(UTC)
    if newest.at > now:
        raise TaskError(
            "clock_wrong",
            f"restore test {newest.sequence} ended at {newest.at:%F %T} UTC and it is {now:%F %T} UTC here: "
            "set this machine's clock",
        )
    if now - newest.at > timedelta(hours=within_hours):
        hours = (now - newest.at).total_seconds() / 3600
        raise _not_proven(
            f"the newest restore test that passed ({newest.sequence}, of {newest.backup}) ended {hours:.1f} hours ago; "
            f"{within_hours} are allowed"
        )
    return {"allowed_by": "proof", "sequence": newest.sequence, "backup": newest.backup, "at": newest.at.isoformat()}


def _not_proven(why: str) -> TaskError:
    return TaskError(
        "not_proven",
        f"{why}: migrations are refused while no restore is proven. Run a restore test, or give a reason to "
        "go on without one (release.withoutProof in the stack file)",
    )
