"""A run: the tasks in order, each with its limit and its retries, and none while something comes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tasks.backup.patience import Patience
from tasks.backup.postgres import Database
from tasks.backup.sqlite import is_sqlite, path_of
from tasks.environment import Environment
from tasks.errors import Interrupted, TaskError, without
from tasks.maintenance_tasks import report as reports
from tasks.maintenance_tasks import sqlite
from tasks.maintenance_tasks.api import Api
from tasks.maintenance_tasks.backups import verify_backups
from tasks.maintenance_tasks.benchmark import benchmark
from tasks.maintenance_tasks.commands_of_application import run_commands
from tasks.maintenance_tasks.context import Context, Outcome, Stopped, time_is_over
from tasks.maintenance_tasks.guard import Guard
from tasks.maintenance_tasks.images import list_unused
from tasks.maintenance_tasks.indexes import reindex
from tasks.maintenance_tasks.plan import Plan, Task
from tasks.maintenance_tasks.sqlite_guard import SqliteGuard
from tasks.maintenance_tasks.statistics import read_statistics
from tasks.maintenance_tasks.tables import analyze, vacuum_analyze
from tasks.progress import say
from tasks.store import open_store

BUILT_IN: dict[str, Callable[[Context], Outcome]] = {
    "analyze": analyze,
    "vacuum-analyze": vacuum_analyze,
    "reindex": reindex,
    "statistics": read_statistics,
    "backup-verification": verify_backups,
    "unused-images": list_unused,
    "benchmark": benchmark,
}
ON_SQLITE: dict[str, Callable[[Context], Outcome]] = {
    "analyze": sqlite.analyze,
    "vacuum-analyze": sqlite.vacuum_analyze,
    "reindex": sqlite.reindex,
    "statistics": sqlite.read_statistics,
}
"""Those that work on the database, where it is a file."""
_LIGHT = {"statistics", "backup-verification", "unused-images"}
"""They put no load on the database."""
_LOOK_SECONDS, _ASK_SECONDS = 1.0, 5.0
"""Between two looks at the database's locks, and two questions to the API server."""
_RETRY_SECONDS = 10.0
Verdict = Literal["done", "failed", "put off", "not run"]


@dataclass
class Step:
    """What came of a task."""

    task: Task
    result: Verdict = "not run"
    why: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.task.name,
            "kind": self.task.task or "command",
            "result": self.result,
            "why": self.why,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 1),
            "notes": list(self.outcome.notes),
            "measures": self.outcome.measures,
        }


class Run:
    """One run of a plan, or of some of its tasks."""

    def __init__(
        self,
        environment: Environment,
        plan: Plan,
        tasks: Sequence[Task],
        *,
        api: Api | None,
        retry_seconds: float = _RETRY_SECONDS,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._environment, self._plan, self._tasks = environment, plan, tasks
        url = environment.required("DATABASE_URL", "postgresql://shop@postgres/shop, or sqlite:///path")
        on_file = is_sqlite(url)
        self._guard = SqliteGuard(path_of(url), api, plan) if on_file else Guard(Database.at(url), api, plan)
        self._built_in = {**BUILT_IN, **(ON_SQLITE if on_file else {})}
        self._waits_left = plan.wait_seconds
        self._retry_seconds, self._look_seconds = retry_seconds, look_seconds
        self.steps = [Step(task) for task in tasks]

    def work(self) -> None:
        """Every task, in order. What fails or is put off is in `steps`; a kill is raised."""
        try:
            with ExitStack() as alone:
                with self._waiting() as patience:
                    alone.enter_context(self._guard.alone(patience, time.sleep))
                self._work()
        except TaskError as error:
            # The database is away, or another run has not ended.
            for step in self.steps:
                if step.result == "not run":
                    step.result, step.why = "put off", self._hide(str(error))

    def _work(self) -> None:
        for step in self.steps:
            say(f"{step.task.name} …")
            began = time.monotonic()
            self._run(step)
            step.seconds = time.monotonic() - began
            say(f"{step.task.name}: {step.result}" + (f": {step.why}" if step.why else f" in {step.seconds:.1f} s"))
            if step.result == "failed" and not step.task.continue_on_error:
                for later in self.steps:
                    if later.result == "not run":
                        later.why = f"{step.task.name} failed, and continueOnError is false"
                return

    def _run(self, step: Step) -> None:
        failures = 0
        while True:
            if busy := self._await_free(step.task):
                step.result, step.why = "put off", busy
                return
            step.attempts += 1
            try:
                step.outcome = self._attempt(step.task)
                step.why = step.outcome.failure
                step.result = "failed" if step.why else "done"
                return
            except Stopped as stopped:
                if stopped.gives_way:
                    say(f"  stopped, because {stopped}: begun again after it")
                    continue
                step.why = str(stopped)
            except TaskError as error:
                step.why = self._hide(f"{error} ({error.code})")
            except Exception as error:
                # A defect of this program: the other tasks run nevertheless.
                step.why = self._hide(f"{type(error).__name__}: {error} (internal)")
            failures += 1
            if failures > step.task.retries:
                step.result = "failed"
                return
            say(f"  failed: {step.why}; tried again in {self._retry_seconds:.0f} s")
            time.sleep(self._retry_seconds)

    def _attempt(self, task: Task) -> Outcome:
        context = Context(self._environment, self._plan, task, self._guard)
        with self._watched(context):
            return self._built_in[task.task](context) if task.task else run_commands(context)

    def _await_free(self, task: Task) -> str | None:
        """Wait until the task may begin; why it may not, when the run has waited for as long as it may."""
        with self._waiting() as patience:
            while reason := self._find_reason(task):
                try:
                    time.sleep(patience.spend(TaskError("busy", reason), most=5.0))
                except TaskError as error:
                    return self._hide(str(error))
        return None

    @contextmanager
    def _waiting(self) -> Iterator[Patience]:
        """What is left of the time that all waits of the run may take together."""
        began = time.monotonic()
        try:
            yield Patience(self._waits_left)
        finally:
            self._waits_left = max(0.0, self._waits_left - (time.monotonic() - began))

    def _find_reason(self, task: Task) -> str | None:
        try:
            if command := self._guard.find_command():
                return command
            look = self._guard.look()
        except TaskError as error:
            # Without an answer, a release may be under way.
            return str(error)
        try:
            return look.find_reason() or (None if task.task in _LIGHT else look.find_load())
        finally:
            look.close()

    @contextmanager
    def _watched(self, context: Context) -> Iterator[None]:
        """Stop the task when its time is over, or when something begins that comes first."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(context, ended), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _watch(self, context: Context, ended: threading.Event) -> None:
        look = None
        asked = time.monotonic()
        stopped: Stopped | None = None
        while not ended.wait(self._look_seconds):
            if stopped is None and context.left <= 0:
                stopped = time_is_over(context.task)
            if stopped is None:
                with suppress(TaskError):
                    look = look or self._guard.look()
                reason = look.find_reason() if look else None
                if look and look.closed:
                    look = None
                if reason is None and time.monotonic() - asked >= _ASK_SECONDS:
                    asked = time.monotonic()
                    # It does not answer for a moment: the database's locks still hold the task back.
                    with suppress(TaskError):
                        reason = self._guard.find_command()
                stopped = Stopped(reason, gives_way=True) if reason else None
            if stopped:
                context.stop(stopped)
        if look:
            look.close()

    def _hide(self, text: str) -> str:
        return without(self._environment.secrets, " ".join(text.split()))


def run_plan(
    environment: Environment, names: Sequence[str], *, retry_seconds: float = _RETRY_SECONDS
) -> reports.Report:
    """Run the plan's tasks, or those of these names; the report, which is kept in the store."""
    plan = Plan.from_environment(environment)
    tasks = plan.select(names)
    api = Api(environment) if environment.text("API_NAMESPACE") else None
    began = datetime.now(UTC)
    run = Run(environment, plan, tasks, api=api, retry_seconds=retry_seconds)
    try:
        run.work()
    except (Interrupted, KeyboardInterrupt):
        for step in run.steps:
            if step.result == "not run":
                step.why = "the run was ended"
        _keep(environment, plan, run, began, partial=len(tasks) < len(plan.tasks))
        raise
    return _keep(environment, plan, run, began, partial=len(tasks) < len(plan.tasks))


def _keep(environment: Environment, plan: Plan, run: Run, began: datetime, *, partial: bool) -> reports.Report:
    store = open_store(environment)
    previous = reports.read_newest(store, plan.schedule)
    steps = [step.to_json() for step in run.steps]
    ended = datetime.now(UTC)
    report: reports.Report = {
        "schedule": plan.schedule,
        "run": reports.name_run(began, partial=partial),
        "stack": environment.text("BACKUP_STACK"),
        "began_at": began.isoformat(timespec="seconds"),
        "ended_at": ended.isoformat(timespec="seconds"),
        "seconds": round((ended - began).total_seconds(), 1),
        "result": judge(run.steps),
        "summary": summarize(run.steps),
        "tasks": steps,
        "previous": previous["run"] if previous else None,
        "changes": reports.compare(steps, previous),
    }
    say(report["summary"])
    report["key"] = reports.keep(store, report)
    deleted = reports.clean_up(store, plan.schedule, ended, days=plan.report_days, least=plan.report_least)
    if deleted:
        say(f"{deleted} old reports deleted")
    return report


def judge(steps: Sequence[Step]) -> str:
    """`failed` if a task failed or did not run, else `put off` if one was, else `done`."""
    results = {step.result for step in steps}
    if results & {"failed", "not run"}:
        return "failed"
    return "put off" if "put off" in results else "done"


def summarize(steps: Sequence[Step]) -> str:
    """`5 of 7 tasks done; failed: reindex; put off: analyze`."""
    parts = [f"{sum(step.result == 'done' for step in steps)} of {len(steps)} tasks done"]
    for result in ("failed", "put off", "not run"):
        if names := [step.task.name for step in steps if step.result == result]:
            parts.append(f"{result}: {', '.join(names)}")
    return "; ".join(parts)
