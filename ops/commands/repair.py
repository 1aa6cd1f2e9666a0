"""`runbook rotate repair`: bring the servers' logins back in line with the stack, after their roles came back from an
older copy. Nothing of the stack changes: neither its file nor its pods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ops.adapters.task_jobs import TaskFailed, Tasks
from ops.commands.rotate import RotationRun
from ops.commands.update import LockPolicy, StackLock, require_unlocked
from ops.decisions import rotation
from ops.errors import Refused, Stuck
from ops.stack.session import Session

Confirm = Callable[[Sequence[str]], bool]


def repair_logins(session: Session, wanted: Sequence[str], policy: LockPolicy, confirm: Confirm) -> dict[str, Any]:
    """Make roles and passwords at the servers those that the stack uses and accepts; refuse those it retired."""
    with StackLock(session, "rotate repair", policy) as lock:
        run = RotationRun.start(session, policy)
        names = rotation.choose_repairs(wanted, run.rotations)
        require_unlocked(session, policy)
        with lock.asking():
            confirmed = confirm(names)
        if not confirmed:
            raise Refused("Not confirmed; nothing was changed.")
        tasks = Tasks(run.facts.cluster, session.say)
        done: dict[str, Any] = {}
        for name in names:
            # Of a retirement that was interrupted, the previous login is needed until the rotation ends.
            retired = run.rotations[name].state.phase == "retired" and not run.is_interrupted(name)
            words = ("credentials", "repair", run.rotations[name].kind, *(("--retired",) if retired else ()))
            try:
                done[name] = tasks.run(*words)
            except TaskFailed as failed:
                raise Stuck(rotation.explain_repair(name, str(failed), failed.code)) from None
        return {"result": "succeeded", "repaired": done, "url": None, "seconds": round(session.seconds, 1)}
