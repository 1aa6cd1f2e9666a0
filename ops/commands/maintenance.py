"""Maintenance mode (HerbisVeritas "Emergency Commands"): customers get the maintenance page, the pods keep running."""

from __future__ import annotations

from typing import Any

from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.errors import Refused, Stuck
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, load_settings
from ops.stack.stack_file import StackText
from settings import Maintenance
from settings.maintenance import MAINTENANCE


def switch_maintenance(session: Session, policy: LockPolicy, wanted: Maintenance | None) -> dict[str, Any]:
    """Turn maintenance mode on (with its reason) or off, by one update."""
    with StackLock(session, "maintenance", policy):
        facts = gather_context(session, decides="maintenance")
        if facts.now.release is None:
            raise Refused(f"Stack {session.stack} was never deployed: there is nothing to take out of service.")
        new = facts.checked(maintenance_change(wanted))
        prepare_update(session, facts, policy)
        word = f"maintenance on: {wanted.reason}" if wanted else "maintenance off"
        run = apply(session, facts.text, new, f"{word} by {whoami()}", policy)
        if not run.succeeded:
            raise Stuck(f"Maintenance mode could not be changed:\n{run.why}", run.causes)
        return {
            "result": "succeeded",
            "maintenance": wanted.to_config() if wanted else None,
            "url": run.outputs.get("url"),
            "seconds": round(session.seconds, 1),
        }


def read_maintenance(session: Session) -> dict[str, Any]:
    """Whether maintenance mode is on, as the stack file says."""
    found = load_settings(session.file).maintenance
    return {"state": "on" if found else "off", "maintenance": found.to_config() if found else None}


def maintenance_change(wanted: Maintenance | None) -> dict[str, Any]:
    return {MAINTENANCE: wanted.to_config() if wanted else None}


def turn_on(
    session: Session, facts: StackContext, reason: str, policy: LockPolicy, *, stops_writers: bool = False
) -> StackText:
    """Turn maintenance mode on by one update; the stack file with it. `stops_writers`: also the pods that have a SQLite
    database open."""
    text = facts.checked(maintenance_change(Maintenance(reason=reason, stops_writers=stops_writers or None)))
    run = apply(session, facts.text, text, f"maintenance on: {reason} by {whoami()}", policy)
    if not run.succeeded:
        raise Stuck(f"Maintenance mode could not be turned on; no data was changed:\n{run.why}", run.causes)
    return text
