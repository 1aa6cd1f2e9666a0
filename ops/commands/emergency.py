"""`runbook rotate emergency` (HerbisVeritas "Rotation d'Urgence"): replace all values at once, end all sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ops.adapters.task_jobs import Tasks
from ops.commands.rotate import RotationRun
from ops.commands.update import LockPolicy, StackLock, prepare_update
from ops.decisions import rotation
from ops.decisions.rotation import Left
from ops.errors import Refused, Stuck
from ops.stack import incidents
from ops.stack.session import Session
from settings import StackSettings
from settings.rotation import slot_key


def rotate_at_once(
    session: Session,
    wanted: Sequence[str],
    policy: LockPolicy,
    reason: str,
    confirm: Callable[[Sequence[str], Sequence[Left]], bool],
) -> dict[str, Any]:
    """Replace every value that can be made here, end all sessions, and check that the servers refuse the old values."""
    with StackLock(session, "rotate emergency", policy) as lock:
        run = RotationRun.start(session, policy)
        chosen = rotation.find_secrets(wanted, run.rotations) or list(run.rotations)
        left = rotation.list_left(chosen, run.rotations, () if wanted else find_others(run.facts.settings))
        names = [name for name in chosen if name not in {each.secret for each in left}]
        if not names:
            raise Refused("\n".join(f"{each.secret} {each.why}: {each.then}." for each in left))
        prepare_update(session, run.facts, policy)
        with lock.asking():
            confirmed = confirm(names, left)
        if not confirmed:
            raise Refused("Not confirmed; nothing was changed.")
        record = incidents.open_incident(
            run.facts.cluster,
            "emergency-rotation",
            {"reason": reason, "secrets": names, "left": [vars(each) for each in left]},
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
            "left": [each.secret for each in left],
            "byHand": [vars(each) for each in left],
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


def find_others(settings: StackSettings) -> list[str]:
    """Secrets of the stack that no rotation replaces."""
    values = {
        slot_key(name, period)
        for each in settings.rotations().values()
        for name in (*each.secret_names, each.name)
        for period in (0, 1)
    }
    return [name for name in settings.secret_names if name not in values]
