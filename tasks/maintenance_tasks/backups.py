"""`backup-verification`: is there a new backup, is it whole, and has a restore of one been proven lately."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.backup import catalog, listing
from tasks.backup.manifest import name_other_owner
from tasks.backup.proofs import trusted_proofs
from tasks.errors import Refused
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say
from tasks.store import open_store


def verify_backups(context: Context) -> Outcome:
    """Asks the store and the record of restore tests; `restore-test` is what restores."""
    environment = context.environment
    store, stack = open_store(environment), environment.text("BACKUP_STACK")
    interval = environment.integer("BACKUP_INTERVAL_SECONDS", least=1)
    most_hours = environment.integer("RESTORE_TEST_MAX_AGE_HOURS", least=1)
    if interval is None or most_hours is None:
        raise Refused("environment_invalid", "BACKUP_INTERVAL_SECONDS and RESTORE_TEST_MAX_AGE_HOURS have to be set")
    rows = listing.listing(environment)
    context.require_going()
    # A chain of records that was changed is an error, with its own code.
    origins = {row.id: row.origin for row in catalog.manifests(store)}
    ours = [row for row in rows if not name_other_owner(origins.get(row["id"]), stack, None)]
    tests = trusted_proofs(store)
    proofs = [
        test
        for test in tests
        if test.passed and not name_other_owner(test.origin or origins.get(test.backup or ""), stack, None)
    ]
    now = datetime.now(UTC)
    measures: dict[str, float] = {"backups": len(ours), "records of restore tests": len(tests)}
    if not ours:
        return Outcome(measures=measures, failure="there is no whole backup of this stack: `runbook backup now`")
    newest, proof = ours[0], proofs[-1] if proofs else None
    measures["newest backup bytes"] = newest["size_bytes"]
    notes = [f"newest backup: {newest['id']}"]
    problems: list[str] = []
    if newest["age_seconds"] > 2 * interval:
        problems.append(f"the newest backup is {newest['age_seconds'] / 3600:.0f} h old")
    if proof is None:
        problems.append("no restore has ever been proven: `runbook backup verify`")
    else:
        hours = (now - proof.at).total_seconds() / 3600
        measures["hours since a restore was proven"] = round(hours, 1)
        notes.append(f"last proven restore: {proof.backup}, {hours:.0f} h ago")
        if proof.rto_seconds is not None:
            measures["seconds that a restore takes"] = proof.rto_seconds
        if hours > most_hours:
            problems.append(f"the last proven restore is {hours:.0f} h old, {most_hours} are allowed")
    say(f"  {len(ours)} backups, {len(tests)} records of restore tests")
    return Outcome(notes=notes, measures=measures, failure="; ".join(problems) or None)
