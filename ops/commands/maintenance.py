"""Maintenance mode (HerbisVeritas "Emergency Commands"): customers get the maintenance page, the pods keep running."""

from __future__ import annotations

from typing import Any

from ops.adapters.cluster import Cluster
from ops.commands.status_page import publish_status
from ops.commands.update import LockPolicy, StackLock, apply, prepare_update
from ops.decisions.public_status import MAINTENANCE as KIND
from ops.errors import OpsError, Refused, Stuck
from ops.stack import incidents
from ops.stack.locks import whoami
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, load_settings, require_application
from ops.stack.stack_file import StackText
from settings import Maintenance
from settings.maintenance import MAINTENANCE
from settings.status_page import StatusPage


def switch_maintenance(session: Session, policy: LockPolicy, wanted: Maintenance | None) -> dict[str, Any]:
    """Turn maintenance mode on (with its reason) or off, by one update."""
    require_application(session, "take out of service")
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
        show_on_status_page(session, facts.cluster, facts.settings.status_page, wanted.reason if wanted else None)
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
    show_on_status_page(session, facts.cluster, facts.settings.status_page, reason)
    return text


def show_on_status_page(session: Session, cluster: Cluster, page: StatusPage | None, reason: str | None) -> None:
    """Open the record that the status page shows, or close it (`reason` None). What fails is only said."""
    if page is None:
        return
    try:
        records = incidents.list_incidents(cluster)
        still = [one["name"] for one in records if one["kind"] == KIND and "closedAt" not in one]
        if reason is None:
            for name in still:
                incidents.close_incident(cluster, name, {"result": "ended"})
        elif not still:
            incidents.open_incident(cluster, KIND, {"reason": reason})
        why = publish_status(cluster, page)
    except OpsError as error:
        why = error.brief
    if why:
        session.say(f"The status page does not show it: {why}. `runbook incident publish` tries again.")
