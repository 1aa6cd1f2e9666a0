"""Runs one update safely: locks, what a killed run left pending, and the stack file when nothing was changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ops.adapters.automation import Run
from ops.causes.watch import FailureWatch
from ops.errors import Interrupted, Refused
from ops.progress import Progress
from ops.stack import incidents, stack_file
from ops.stack.locks import EngineLock, Locked, all_abandoned
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, load_settings
from ops.stack.stack_file import StackText

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pulumi.automation.events import EngineEvent

    from ops.adapters.cluster import Cluster


@dataclass(frozen=True)
class LockPolicy:
    """Whether to remove another engine's lock: `break_it` asks `confirm` first."""

    break_it: bool
    confirm: Callable[[str], bool]
    gone: Callable[[Sequence[EngineLock]], bool] = all_abandoned
    """Whether the owners are known to be gone."""


def prepare_update(session: Session, facts: StackContext, policy: LockPolicy) -> None:
    """Before anything is changed: require that no engine holds the stack, and resolve what a killed one left."""
    require_unlocked(session, policy)
    if (lockdown := facts.settings.lockdown) and lockdown.incident and lockdown.over(datetime.now(UTC)):
        # The update that follows removes it from the stack file.
        ended = {"result": "ended", "endedBy": "the clock"}
        incidents.close_incident(facts.cluster, lockdown.incident, ended, at=lockdown.until)
    if facts.pending:
        _settle_pending(session, facts)


def require_unlocked(session: Session, policy: LockPolicy) -> None:
    """Refuse when another engine holds the stack's lock."""
    if locks := session.locks():
        _break_lock(session, locks, policy)


def _break_lock(session: Session, locks: Sequence[EngineLock], policy: LockPolicy) -> None:
    owners = ", ".join(map(str, locks))
    if policy.gone(locks):
        session.say(f"Removing the lock of {owners}: that process no longer exists.")
    elif not policy.break_it:
        raise Locked(
            locks,
            f"The stack is locked by {owners}: another update runs, or was killed on another machine. Wait for it; if "
            "you know that it ended, run this again with --break-lock. Nothing was changed.",
        )
    elif not policy.confirm(f"Break the lock of {owners}? If that update still runs, both will write the state."):
        raise Refused("The lock was kept. Nothing was changed.")
    session.engine.break_lock()


def _settle_pending(session: Session, facts: StackContext) -> None:
    """For each object that a killed run may have made: import it when it exists, else remove it from the state."""
    found: dict[str, str] = {}
    for resource in facts.pending:
        known = _find_object(facts, resource)
        name = resource["urn"].rsplit("::", 1)[-1]
        what = "it exists, imported" if known else "it does not exist"
        session.say(f"{name} was being created when a run was killed: {what}.")
        if known:
            found[resource["urn"]] = known
    session.engine.import_or_forget(found, session.file)


def _find_object(facts: StackContext, resource: Mapping[str, Any]) -> str | None:
    if not resource["type"].startswith("kubernetes:"):
        # A random value or a local command exists only in the state: it is made again.
        return None
    return facts.cluster.exists(resource["inputs"])


def apply(session: Session, old: StackText, new: StackText, message: str, policy: LockPolicy) -> Run:
    """Write the stack file and run the update. If the update changes nothing, the file is restored."""
    new.save()
    try:
        run = _up(session, message)
    except Locked as taken:
        # Backends other than files report a lock only now.
        old.save()
        _break_lock(session, taken.locks, policy)
        return apply(session, old, new, message, replace(policy, break_it=False))
    if run.succeeded or run.touched:
        if run.interrupted:
            raise Interrupted(
                f"The update was stopped half-way: {'; '.join(run.errors) or 'the engine was killed'}. "
                "Run the same command again to continue, or `runbook rollback` to go back."
            )
        return run
    old.save()
    why = "\n".join(run.errors) or "the engine was stopped"
    if run.interrupted:
        raise Interrupted(f"The update was stopped before it changed anything: {why}")
    raise Refused(f"The update could not start; nothing was changed.\n{why}", run.causes)


def _up(session: Session, message: str) -> Run:
    """One update; when it fails, `errors` and `causes` say why."""

    def connect() -> Cluster:
        return session.cluster(load_settings(session.file), stack_file.read(session.file).config)

    with Progress(session.console) as progress, FailureWatch(connect, session.say, session.engine.stop) as watch:

        def see(event: EngineEvent) -> None:
            watch(event)
            progress(event)

        run = session.engine.up(message, session.file, see)
        if not run.succeeded and not run.interrupted:
            watch.explain(run)
        return run
