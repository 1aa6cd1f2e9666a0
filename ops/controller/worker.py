"""Handles alerts one at a time, with the same code as the operator's commands."""

from __future__ import annotations

import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lightkube.resources.core_v1 import Pod

from ops.adapters.cluster import Cluster
from ops.commands.update import LockPolicy, require_unlocked
from ops.controller import guard
from ops.controller.alerts import Alert, AlertSource, Hint, Unreachable
from ops.controller.follow_up import follow_up
from ops.controller.guard import Verdict
from ops.controller.journal import Doing, Journal
from ops.controller.lockdown_run import LockdownRun, end_lockdown
from ops.controller.metrics import Metrics
from ops.controller.notify import log
from ops.controller.publication import publish_news
from ops.controller.reporter import Reporter
from ops.controller.rollback_run import RollbackRun
from ops.controller.workspace import NAME, Workspace
from ops.errors import Interrupted, OpsError
from ops.stack.locks import EngineLock, Locked, engine_alive
from ops.stack.stack_context import load_settings

_PATIENCE_SECONDS = 600
"""How long another update may run until Slack is notified: migrations may take minutes."""
_LONGEST_SECONDS = 600
"""An alert that waits is looked at again after this time at the latest: it may have been resolved."""
_LOOK_SECONDS = 60
"""From one look for an expired lockdown, and for an update that was not followed up, to the next."""


@dataclass
class _Waiting:
    """An alert from its arrival to its final verdict."""

    alert: Alert
    since: float
    due: float
    reported: set[str] = field(default_factory=set[str])
    """What was in the way and has been reported."""


class Worker:
    """Takes alerts from a queue; each decision is made on facts read at that moment."""

    def __init__(
        self,
        stack: Workspace,
        cluster: Cluster,
        journal: Journal,
        reporter: Reporter,
        counts: Metrics,
        alertmanager: AlertSource,
    ) -> None:
        self._stack, self._cluster, self._journal, self._reporter = stack, cluster, journal, reporter
        self._counts, self._alertmanager = counts, alertmanager
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Wakes the loop; safe in a signal handler, unlike a condition."""
        self._waiting: dict[str, _Waiting] = {}
        self._lock = threading.Lock()
        self._policy = LockPolicy(break_it=False, confirm=lambda _: False, gone=self._gone)
        self.stopping = threading.Event()

    # -- called by other threads -----------------------------------------------------------------

    def known(self, key: str) -> bool:
        with self._lock:
            return key in self._waiting or self._journal.handled(key)

    def put(self, alert: Alert) -> None:
        now = time.monotonic()
        with self._lock:
            if alert.hint.key in self._waiting:
                return
            self._waiting[alert.hint.key] = _Waiting(alert, now, now)
        self._woken.put(None)

    def stop(self, *_: object) -> None:
        self.stopping.set()
        self._woken.put(None)

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`, in the main thread: only that one can pass signals on to the engine."""
        checked = time.monotonic()
        while not self.stopping.is_set():
            with suppress(queue.Empty):
                self._woken.get(timeout=self._pause())
            if self.stopping.is_set():
                return
            if waiting := self._next():
                self._guarded(lambda waiting=waiting: self._handle(waiting), waiting)
            if time.monotonic() - checked >= _LOOK_SECONDS:
                self._guarded(self._look_at_stack)
                checked = time.monotonic()

    def _pause(self) -> float:
        """Seconds until there is something to do, if nothing comes."""
        with self._lock:
            due = min((waiting.due for waiting in self._waiting.values()), default=float("inf"))
        return min(_LOOK_SECONDS, max(0.0, due - time.monotonic()))

    def _next(self) -> _Waiting | None:
        """The alert that is due for longest."""
        now = time.monotonic()
        with self._lock:
            due = [waiting for waiting in self._waiting.values() if waiting.due <= now]
        return min(due, key=lambda waiting: waiting.due, default=None)

    def resume(self) -> None:
        """Finish what a killed controller began."""
        if doing := self._journal.doing:
            log("resuming the rollback of a killed controller", leaving=doing.leaving, target=doing.target)
            self._guarded(lambda: self._go_on(doing))
        self._guarded(self._look_at_stack)

    def _guarded(self, work: Callable[[], None], waiting: _Waiting | None = None) -> None:
        self._counts.gauge("busy", 1)
        try:
            work()
        except Interrupted as error:
            log("interrupted: the next controller resumes", error=str(error))
            self.stopping.set()
        except Exception as error:  # a failure with one alert must not stop the next
            known = isinstance(error, OpsError)
            what = error.brief if isinstance(error, OpsError) else type(error).__name__
            if waiting is None:
                self._reporter.failed(what, str(error) if known else traceback.format_exc())
                return
            if what not in waiting.reported:
                waiting.reported.add(what)
                self._reporter.failed(what, str(error) if known else traceback.format_exc())
            waiting.due = time.monotonic() + guard.AGAIN_SECONDS
        finally:
            self._counts.gauge("busy", 0)

    # -- one alert -------------------------------------------------------------------------------

    def _handle(self, waiting: _Waiting) -> None:
        alert = waiting.alert
        verdict = self._try(alert)
        if verdict is None:
            self._forget(alert)
        elif verdict.again_seconds is None:
            self._reporter.unchanged(alert, verdict)
            self._forget(alert)
        else:
            self._wait(waiting, verdict, verdict.again_seconds)

    def _try(self, alert: Alert) -> Verdict | None:
        """Why nothing was done; None when nothing is left to be said."""
        if self._journal.handled(alert.hint.key):
            return None
        try:
            # It may have waited: what was true of it then may be over.
            if self._alertmanager.firing(alert.hint) is None:
                self._reporter.resolved(alert)
                return None
            require_unlocked(self._stack.session, self._policy)
        except Unreachable as error:
            return guard.wait("alertmanager", f"Alertmanager does not say whether it still fires ({error})")
        except Locked as taken:
            return guard.wait_for(taken)
        log("alert", alert=alert.name, action=alert.action, startsAt=alert.hint.starts_at.isoformat())
        fresh, policy, reporter = self._stack.fresh, self._policy, self._reporter
        if alert.action == "lockdown":
            return LockdownRun(fresh, policy, reporter, alert).run()
        return RollbackRun(fresh, policy, reporter, alert).run()

    def _wait(self, waiting: _Waiting, verdict: Verdict, seconds: float) -> None:
        now = time.monotonic()
        waiting.due = now + min(seconds, _LONGEST_SECONDS)
        # That another update runs is normal, unless it does not end.
        quiet = verdict.topic == "locked" and now - waiting.since < _PATIENCE_SECONDS
        if verdict.topic not in waiting.reported and not quiet:
            waiting.reported.add(verdict.topic)
            self._reporter.unchanged(waiting.alert, verdict)
        log("waits", alert=waiting.alert.name, why=verdict.why, seconds=round(seconds))

    def _forget(self, alert: Alert) -> None:
        with self._lock:
            self._waiting.pop(alert.hint.key, None)

    def _go_on(self, doing: Doing) -> None:
        """The rollback that a killed controller began. Nothing else is handled before it has ended."""
        alert, deadline = Alert.from_dict(doing.alert), time.monotonic() + _PATIENCE_SECONDS
        while True:
            verdict = RollbackRun(self._stack.fresh, self._policy, self._reporter, alert, doing).run()
            if verdict is None:
                return
            if verdict.again_seconds is None or time.monotonic() > deadline:
                self._reporter.not_resumed(alert, doing, verdict)
                return
            log("waits", alert=alert.name, why=verdict.why)
            if self.stopping.wait(verdict.again_seconds):
                return

    def _look_at_stack(self) -> None:
        """What no webhook says: a lockdown that is over, an update that failed, a release that is bad like one that was
        rolled back. Retried each minute."""
        try:
            session = self._stack.fresh()
            if end_lockdown(session, self._policy):
                self._reporter.unlocked()
            follow_up(session, self._stack.fresh, self._policy, self._reporter, self._journal)
            settings = load_settings(session.file)
            if settings.release and settings.release.action == "deploy":
                self._judge_again()
            publish_news(self._cluster, settings)
        except Interrupted:
            raise
        except OpsError as error:
            log("looking for an expired lockdown or an unfinished update failed", error=str(error))

    def _judge_again(self) -> None:
        """After a release: the alerts that still fire since a rollback before it. When the same bad release is deployed
        again meanwhile, they go on firing, and Alertmanager has nothing new to send."""
        if not (keys := self._journal.rolled_back()):
            return
        try:
            firing = [self._alertmanager.firing(Hint.from_key(key)) for key in keys]
        except Unreachable as error:
            log("Alertmanager does not say what still fires since the last rollback", error=str(error))
            return
        self._journal.forget(keys)
        for alert in filter(None, firing):
            self.put(alert)

    # -- locks -----------------------------------------------------------------------------------

    def _gone(self, locks: Sequence[EngineLock]) -> bool:
        """Whether every lock belongs to a controller that no longer runs. The lease ensures that only one is active."""
        return bool(locks) and all(self._is_gone(lock) for lock in locks)

    def _is_gone(self, lock: EngineLock) -> bool:
        if lock.user != NAME or not lock.host.startswith(f"{NAME}-"):
            return False
        if lock.host == socket.gethostname():
            return not engine_alive(lock.pid)
        return self._cluster.find(Pod, lock.host) is None
