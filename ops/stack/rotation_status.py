"""`runbook rotate status`: the age of every secret against its policy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from ops.adapters.task_jobs import TaskFailed, Tasks
from ops.commands.rotate import RotationRun
from ops.commands.update import LockPolicy
from ops.decisions.rotation import RESTING
from ops.stack.session import Session


def read_rotation_status(session: Session) -> list[dict[str, Any]]:
    """Every secret: its age against the policy, what comes next, and which clients still use a previous value."""
    run = RotationRun.start(session, LockPolicy(break_it=False, confirm=lambda _: False))
    coming = {item.secret: item for item in run.list_due()}
    overlapping = {
        r.kind for r in run.rotations.values() if r.state.phase not in RESTING and r.kind in ("database", "redis")
    }
    users = _users(session, run, overlapping) if overlapping else {}
    now = run.facts.clock.now()
    since = min(entry.started for entry in run.facts.history)
    return [
        {
            "secret": name,
            "kind": rotating.kind,
            "phase": rotating.state.phase,
            "period": rotating.state.period,
            "ageSeconds": round((now - (rotating.rotated_at or since)).total_seconds()),
            "maxAgeSeconds": round(rotating.max_age.total_seconds()) if rotating.max_age else None,
            "next": {"action": coming[name].action, "when": _format(coming[name].when)},
            "previousUsedBy": _previous(users, rotating.kind),
            "failure": rotating.state.failure,
        }
        for name, rotating in sorted(run.rotations.items())
    ]


def _format(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when else None


def _previous(users: Mapping[str, Any], kind: str) -> list[Any] | None:
    """Clients with a previous value; None where that is unknown."""
    if not users or kind in users.get("unknown", ()):
        return None
    return [row for row in users.get(kind, ()) if row["previous"]]


def _users(session: Session, run: RotationRun, kinds: Collection[str]) -> dict[str, Any]:
    try:
        found = Tasks(run.facts.cluster, session.say).run("credentials", "sessions")
    except TaskFailed as failed:
        session.say(f"Which clients use a previous value is unknown: {failed}")
        return {}
    for kind, why in found.get("unknown", {}).items():
        if kind in kinds:
            session.say(f"Which clients use a previous value of {kind} is unknown: {why}")
    return found
