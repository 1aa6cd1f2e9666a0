"""Handles alerts one at a time, with the same code as the operator's commands."""

from __future__ import annotations

import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from lightkube.resources.core_v1 import Pod

from ops.adapters.cluster import Cluster
from ops.commands import lockdown
from ops.commands.rollback import Confirm, Judge, Wish, rollback
from ops.commands.update import LockPolicy
from ops.controller import guard
from ops.controller.alerts import Alert
from ops.controller.journal import Doing, Journal
from ops.controller.metrics import Metrics
from ops.controller.notify import Slack, log
from ops.controller.reporter import Reporter
from ops.controller.rollback_run import RollbackRun
from ops.controller.workspace import NAME, Workspace
from ops.errors import Interrupted, OpsError
from ops.stack.locks import EngineLock, Locked, engine_alive
from ops.stack.session import Session
from ops.stack.stack_context import load_settings

_WAIT_SECONDS = 600
"""How long to wait for another update: migrations may take minutes. After that, Slack is notified."""
_AGAIN_SECONDS = 3
_IDLE_SECONDS = 60


class Worker:
    """Takes alerts from a queue; each decision is made on facts read at that moment."""

    def __init__(
        self, namespace: str, stack: Workspace, cluster: Cluster, journal: Journal, slack: Slack, counts: Metrics
    ) -> None:
        self._namespace, self._stack, self._cluster = namespace, stack, cluster
        self._journal, self._slack, self._counts = journal, slack, counts
        self._reporter = Reporter(namespace, cluster, journal, slack, counts)
        self._queue: queue.SimpleQueue[Alert | None] = queue.SimpleQueue()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()
        self._policy = LockPolicy(break_it=False, confirm=lambda _: False, gone=self._gone)
        self.stopping = threading.Event()

    # -- called by other threads -----------------------------------------------------------------

    def known(self, key: str) -> bool:
        with self._lock:
            return key in self._waiting or self._journal.handled(key)

    def put(self, alert: Alert) -> None:
        with self._lock:
            if alert.hint.key in self._waiting:
                return
            self._waiting.add(alert.hint.key)
        self._queue.put(alert)

    def stop(self, *_: object) -> None:
        self.stopping.set()
        self._queue.put(None)

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until `stop`, in the main thread: only that one can pass signals on to the engine."""
        while not self.stopping.is_set():
            try:
                alert = self._queue.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                self._guarded(self._end_lockdown)
                continue
            if alert is not None:
                self._guarded(lambda alert=alert: self._handle(alert))
                with self._lock:
                    self._waiting.discard(alert.hint.key)

    def resume(self) -> None:
        """Finish what a killed controller began."""
        if doing := self._journal.doing:
            log("resuming the rollback of a killed controller", leaving=doing.leaving, target=doing.target)
            self._guarded(lambda: self._go_on(doing))
        self._guarded(self._end_lockdown)

    def _guarded(self, work: Callable[[], None]) -> None:
        self._counts.gauge("busy", 1)
        try:
            work()
        except Interrupted as error:
            log("interrupted: the next controller resumes", error=str(error))
            self.stopping.set()
        except Exception as error:  # a failure with one alert must not stop the next
            self._counts.action("failed")
            log("failed", error=str(error) if isinstance(error, OpsError) else traceback.format_exc())
            self._slack.send(f":warning: *{self._namespace}*: the rollback controller failed: {_first(error)}")
        finally:
            self._counts.gauge("busy", 0)

    def _handle(self, alert: Alert) -> None:
        if self._journal.handled(alert.hint.key):
            return
        log("alert", alert=alert.name, action=alert.action, startsAt=alert.hint.starts_at.isoformat())
        if alert.action == "lockdown":
            self._patiently(lambda: self._lock_down(alert))
        else:
            self._attempt(self._rollback_run(alert))

    def _go_on(self, doing: Doing) -> None:
        self._attempt(self._rollback_run(Alert.from_dict(doing.alert), doing))

    def _rollback_run(self, alert: Alert, doing: Doing | None = None) -> RollbackRun:
        return RollbackRun(self._stack.fresh, self._roll_back, self._reporter, alert, doing)

    def _attempt(self, attempt: RollbackRun) -> None:
        try:
            self._patiently(attempt.run)
        except Locked as taken:
            if self.stopping.is_set():
                raise
            attempt.out_of_time(taken)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Retry, on new facts, while another update runs."""
        deadline, logged = time.monotonic() + _WAIT_SECONDS, ""
        while True:
            try:
                return work()
            except Locked as taken:
                owners = ", ".join(map(str, taken.locks))
                if time.monotonic() > deadline:
                    raise
                if owners != logged:
                    log("waiting for another update", owners=owners, seconds=_WAIT_SECONDS)
                    logged = owners
                if self.stopping.wait(_AGAIN_SECONDS):
                    raise

    # -- lockdown --------------------------------------------------------------------------------

    def _lock_down(self, alert: Alert) -> None:
        session = self._stack.fresh()
        settings = load_settings(session.file)
        now = datetime.now(UTC)
        if settings.monitoring is None:
            return None
        rollback = settings.monitoring.rollback
        at = guard.Situation(now, self._namespace, rollback, None, settings.lockdown, settings.release, ())
        verdict = guard.decide(alert, at)
        wanted = settings.security.lockdown(f"alert {alert.name}: {alert.annotations.get('summary', '')}", now)
        if verdict.act == "lockdown" and rollback.dry_run:
            why = f"dry run: the shop would be locked down until {wanted.until}"
            verdict = guard.Verdict("report", why, dry_run=True)
        if verdict.act != "lockdown":
            return self._reporter.unchanged(alert, verdict)
        done = lockdown.switch_lockdown(session, self._policy, wanted)
        self._journal.end(alert.hint.key, "lockdown")
        self._counts.action("lockdown")
        until = f"{wanted.until:%H:%M:%S} UTC"
        log("locked down", alert=alert.name, until=until, seconds=done["seconds"], incident=done["incident"])
        self._slack.send(
            f":lock: *{self._namespace}*: {alert.name} locked the shop down until {until} "
            f"({done['seconds']} s, record {done['incident']}). Sooner: `runbook security unlock`."
        )
        return None

    def _end_lockdown(self) -> None:
        """After an expired lockdown, resume the CronJobs: unlike the gate, they need an update. Retried each minute."""
        try:
            session = self._stack.fresh()
            found = load_settings(session.file).lockdown
            if found is None or not found.over(datetime.now(UTC)):
                return
            lockdown.switch_lockdown(session, self._policy, None)
        except Interrupted:
            raise
        except OpsError as error:
            log("checking for an expired lockdown failed", error=str(error))
            return
        self._counts.action("unlock")
        log("expired lockdown ended")

    def _roll_back(self, session: Session, wish: Wish, confirm: Confirm, judge: Judge) -> dict[str, Any]:
        return rollback(session, wish, self._policy, confirm, judge)

    def _gone(self, locks: Sequence[EngineLock]) -> bool:
        """Whether every lock belongs to a controller that no longer runs. The lease ensures that only one is active."""
        return bool(locks) and all(self._is_gone(lock) for lock in locks)

    def _is_gone(self, lock: EngineLock) -> bool:
        if lock.user != NAME or not lock.host.startswith(f"{NAME}-"):
            return False
        if lock.host == socket.gethostname():
            return not engine_alive(lock.pid)
        return self._cluster.find(Pod, lock.host) is None


def _first(error: Exception) -> str:
    return error.brief if isinstance(error, OpsError) else type(error).__name__
