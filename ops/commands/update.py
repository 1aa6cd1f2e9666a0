"""Runs updates safely: one lock for the whole command, decisions that are still valid, what a killed run left
pending, and the stack file when nothing was changed.

Plain `pulumi up` holds no lock between updates. So before each update the newest entry of the history and the stack
file are compared with what the command judged, and a difference stops the command. The history is compared once more
when the engine holds its lock, before the program registers a resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from ops.adapters.automation import Run
from ops.causes.watch import FailureWatch
from ops.decisions.standing import describe_change
from ops.errors import Interrupted, OpsError, Refused
from ops.progress import Progress
from ops.stack import incidents, stack_file
from ops.stack.command_lock import CommandLock, Holder
from ops.stack.history import Entry, History
from ops.stack.locks import EngineLock, Locked, all_abandoned, exclusive
from ops.stack.session import Judged, Session
from ops.stack.stack_context import StackContext, load_settings
from ops.stack.stack_file import StackText
from ops.stack.start_check import StartCheck

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from pulumi.automation.events import EngineEvent

    from ops.adapters.cluster import Cluster

_RECENT = 5
"""Entries of the history in which an update is looked for right after it ended."""


@dataclass(frozen=True)
class LockPolicy:
    """What to do about locks of others: `break_it` removes an engine's lock, after `confirm`."""

    break_it: bool
    confirm: Callable[[str], bool]
    gone: Callable[[Sequence[EngineLock]], bool] | None = None
    """Whether the owners are known to have ended; default: by what this machine's local lock recorded."""
    asks: bool = False
    """Whether `confirm` waits for an answer of a person."""
    wait_seconds: float = 0
    """How long to wait for another command that changes the stack."""


@contextmanager
def keep_applied(session: Session) -> Iterator[None]:
    """What the cluster answers after an update of this command is no refusal: the update stands."""
    from ops.adapters.cluster import ClusterError

    try:
        yield
    except ClusterError as error:
        if not (session.judged and session.judged.updates):
            raise
        raise Interrupted(
            f"{error}\nThe stack was updated before that, and the rest of the command was not done. Look at `runbook "
            "status` before you run it again."
        ) from None


class StackLock:
    """The locks of a stack for a whole command: of its stack file on this machine, and of its namespace everywhere."""

    def __init__(self, session: Session, doing: str, policy: LockPolicy) -> None:
        self._session, self._doing, self._policy = session, doing, policy
        self._held = ExitStack()

    def __enter__(self) -> StackLock:
        session = self._session
        with ExitStack() as held:
            held.enter_context(keep_applied(session))
            session.local_lock = held.enter_context(exclusive(session.file, self._doing))
            held.callback(setattr, session, "local_lock", None)
            cluster = session.cluster(load_settings(session.file), stack_file.read(session.file).config)
            lock = CommandLock(
                cluster,
                self._doing,
                is_gone=self._is_gone,
                say=session.say,
                stop=session.stop_engine,
                patience=self._policy.wait_seconds,
            )
            lock.acquire()
            held.callback(lock.release)
            held.callback(self._index_history)
            session.command_lock = lock
            held.callback(setattr, session, "command_lock", None)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Release the locks while a person is asked: an emergency must not wait for the answer. What changed in the
        meantime is noticed before the update."""
        if not self._policy.asks:
            yield
            return
        self._held.close()
        yield
        self.__enter__()

    def _index_history(self) -> None:
        """After updates of this command, so that the next list of the history is fast. A failure is only a message."""
        session = self._session
        if session.judged and session.judged.updates:
            try:
                session.reader.index_history()
            except Refused as error:
                session.say(f"The index of the history was not written; `runbook history` takes longer. {error}")

    def _is_gone(self, holder: Holder) -> bool:
        return self._policy.gone([holder.as_lock()]) if self._policy.gone else False


def prepare_update(session: Session, facts: StackContext, policy: LockPolicy) -> None:
    """Before anything is changed: require that no engine holds the stack, and resolve what a killed one left."""
    require_unlocked(session, policy)
    if (lockdown := facts.settings.lockdown) and lockdown.incident and lockdown.over(facts.clock.now()):
        # The update that follows removes it from the stack file.
        ended = {"result": "ended", "endedBy": "the clock"}
        incidents.close_incident(facts.cluster, lockdown.incident, ended, at=lockdown.until)
    if facts.pending:
        _settle_pending(session, facts)
        session.judged = Judged(next(_read_updates(session), None))


def require_unlocked(session: Session, policy: LockPolicy) -> None:
    """Refuse when another engine holds the stack's lock."""
    if locks := session.locks():
        _break_lock(session, locks, policy)


def _break_lock(session: Session, locks: Sequence[EngineLock], policy: LockPolicy) -> None:
    owners = ", ".join(map(str, locks))
    if policy.gone(locks) if policy.gone else all_abandoned(locks, session.file):
        session.say(f"Removing the lock of {owners}: that process no longer exists.")
    elif not policy.break_it:
        raise Locked(
            locks,
            f"The stack is locked by {owners}: another update runs, or was killed on another machine. Wait for it; if "
            "you know that it ended, run this again with --break-lock. Nothing was changed.",
        )
    elif not policy.confirm(f"Break the lock of {owners}? If that update still runs, both will write the state."):
        raise Refused("The lock was kept. Nothing was changed.")
    session.reader.remove_locks(locks)


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
    """Write the stack file and run the update. If the update changes nothing, the file is restored.

    Refused when the stack is no longer what this command judged.
    """
    _require_unchanged(session, old, message)
    new.save()
    check = StartCheck(lambda: _find_change_under_lock(session))
    try:
        run = _up(session, message, check)
    except Locked as taken:
        # Backends other than files report a lock only now.
        old.save()
        _break_lock(session, taken.locks, policy)
        return apply(session, old, new, message, replace(policy, break_it=False))
    if check.change and not run.touched:
        old.save()
        raise _stopped(session, message, _changed_stack(session, check.change))
    _record_update(session, new, message)
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


def _require_unchanged(session: Session, old: StackText, message: str) -> None:
    """Refuse when another one changed the stack, or its file, since this command decided what to do."""
    if session.command_lock:
        session.command_lock.require_held()
    judged = _judged(session)
    if change := describe_change(judged.newest, next(_read_updates(session), None)):
        found = _changed_stack(session, change)
    elif stack_file.read(session.file).text not in (old.text, judged.written):
        found = f"{session.file.name} was changed while this command ran. Check it, and run the same command again"
    else:
        return
    raise _stopped(session, message, found)


def _find_change_under_lock(session: Session) -> str | None:
    """What another update changed since the judged one. Some backends list the one that has just begun: this one."""
    ended = (entry for entry in _read_updates(session) if entry.result in ("succeeded", "failed"))
    return describe_change(_judged(session).newest, next(ended, None))


def _judged(session: Session) -> Judged:
    if session.judged is None:
        raise ValueError("a command updates a stack only after it has read it")
    return session.judged


def _changed_stack(session: Session, change: str) -> str:
    return (
        f"The stack was changed while this command ran: {change}. Get the newest stack file (`git pull`, or `pulumi"
        f" config refresh --force --stack {session.stack}`), check `git diff`, and run the same command again"
    )


def _stopped(session: Session, message: str, found: str) -> OpsError:
    """The error of a command that goes no further, because what it judged no longer stands."""
    if _judged(session).updates:
        return Interrupted(f"Stopped before `{message.partition(' by ')[0]}`. {found}: it continues from there.")
    return Refused(f"{found}. Nothing was changed.")


def _read_updates(session: Session) -> Iterator[Entry]:
    return History(session.reader.read_history, page=_RECENT).updates()


def _record_update(session: Session, new: StackText, message: str) -> None:
    """This command's own update is what its next decision is compared with."""
    if judged := session.judged:
        latest = islice(_read_updates(session), _RECENT)
        made = next((entry for entry in latest if entry.message == message), judged.newest)
        session.judged = Judged(made, new.text, judged.updates + 1)


def _up(session: Session, message: str, check: StartCheck) -> Run:
    """One update; when it fails, `errors` and `causes` say why."""

    def connect() -> Cluster:
        return session.cluster(load_settings(session.file), stack_file.read(session.file).config)

    application = load_settings(session.file).application
    failures = FailureWatch(connect, session.say, session.engine.stop, application.progress_deadline_seconds)
    with Progress(session.console) as progress, failures as watch:

        def see(event: EngineEvent) -> None:
            watch(event)
            progress(event)

        with check.answering() as environment:
            run = session.engine.up(message, session.file, see, environment)
        if session.command_lock:
            session.command_lock.require_held()
        if not run.succeeded and not run.interrupted:
            watch.explain(run)
        return run
