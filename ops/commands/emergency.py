"""`runbook rotate emergency` (HerbisVeritas "Rotation d'Urgence"): replace all values at once, end all sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ops.adapters.task_jobs import Tasks
from ops.commands.rotate import RotationRun
from ops.commands.update import LockPolicy, StackLock, prepare_update
from ops.decisions import rotation
from ops.errors import Refused, Stuck
from ops.stack import incidents
from ops.stack.session import Session


def rotate_at_once(
    session: Session, wanted: Sequence[str], policy: LockPolicy, reason: str, confirm: Callable[[Sequence[str]], bool]
) -> dict[str, Any]:
    """Replace every value that can be made here, end all sessions, and check that the servers refuse the old values."""
    with StackLock(session, "rotate emergency", policy) as lock:
        run = RotationRun.start(session, policy)
        chosen = rotation.find_secrets(wanted, run.rotations) or list(run.rotations)
        left = [name for name in chosen if rotation.needs_value(run.rotations[name])]
        names = [name for name in chosen if name not in left]
        if not names:
            raise Refused(
                f"{', '.join(left)} come from outside: revoke them at their provider, then set the new value with "
                "`runbook rotate start NAME --no-overlap`."
            )
        prepare_update(session, run.facts, policy)
        with lock.asking():
            confirmed = confirm(names)
        if not confirmed:
            raise Refused("Not confirmed; nothing was changed.")
        record = incidents.open_incident(
            run.facts.cluster, "emergency-rotation", {"reason": reason, "secrets": names, "left": left}
        )
        session.say(f"Incident record {record} is open.")
        run.replace_at_once(names)
        tasks = Tasks(run.facts.cluster, session.say)
        ended, tried = tasks.run("credentials", "log-out"), tasks.run("credentials", "try")
        valid = [
            f"{kind} {which}" for kind, found in tried.items() for which, is_ in found.items() if is_ == "accepted"
        ]
        done = {
            **run.report(names),
            "left": left,
            "incident": record,
            "sessionsEnded": ended["sessions"],
            "old": tried,
        }
        incidents.close_incident(
            run.facts.cluster, record, {"result": "old values still valid" if valid else "succeeded", **done}
        )
        if valid:
            raise Stuck(f"These old credentials are still accepted: {', '.join(valid)}. Incident record {record}.")
        return done
