"""`backup gate`: no migration unless a restore has lately been proven to work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.backup import catalog
from tasks.backup.evidence_head import check_end
from tasks.backup.manifest import Origin, name_other_owner
from tasks.backup.proofs import Proof, trusted_proofs
from tasks.backup.source import open_source
from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.progress import say
from tasks.restore import evidence
from tasks.store import Store, open_store


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
    newest = _newest_passed(store, source.origin(environment.text("BACKUP_STACK"))[0])
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


def _newest_passed(store: Store, here: Origin) -> Proof:
    """The newest restore test that passed, of a backup of this stack and server: others may share the store."""
    others: list[str] = []
    for proof in reversed(trusted_proofs(store)):
        if proof.passed:
            whose = name_other_owner(proof.origin or _origin(store, proof), here.stack, here.server)
            if whose is None:
                return proof
            others.append(f"test {proof.sequence} is of {whose}")
    more = f" with a backup of this stack and server ({others[0]})" if others else ""
    raise _not_proven(f"no restore test has ever passed{more}")


def _origin(store: Store, proof: Proof) -> Origin | None:
    """What the backup's manifest says, for a record that does not; None when retention has deleted it."""
    try:
        return catalog.find(store, proof.backup).origin if proof.backup else None
    except TaskError as error:
        if error.code not in ("manifest_missing", "manifest_invalid", "backup_id_invalid"):
            raise
        return None


def _not_proven(why: str) -> TaskError:
    return TaskError(
        "not_proven",
        f"{why}: migrations are refused while no restore is proven. Run a restore test, or give a reason to "
        "go on without one (release.withoutProof in the stack file)",
    )
