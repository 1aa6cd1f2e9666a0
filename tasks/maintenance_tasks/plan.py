"""What a run does: MAINTENANCE_PLAN, as settings/maintenance_tasks.py writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.environment import Environment
from tasks.errors import Refused

VARIABLE = "MAINTENANCE_PLAN"


@dataclass(frozen=True)
class Task:
    """One step."""

    name: str
    task: str | None
    """Built-in task; None for a command."""
    argvs: Sequence[Sequence[str]] = ()
    """Command lines of the application."""
    timeout_seconds: float = 1800
    retries: int = 0
    continue_on_error: bool = True
    report: str | None = None
    """What a command prints."""
    fail_on: str | None = None
    """The least severity in that report that fails the task."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """What the benchmark requests, and from when on a time is a regression."""

    paths: Sequence[str]
    requests: int
    pause_seconds: float
    regression_percent: float
    least_milliseconds: float


@dataclass(frozen=True)
class Plan:
    """The tasks of one schedule, and their limits."""

    schedule: str
    tasks: Sequence[Task]
    wait_seconds: float
    lock_timeout_seconds: float
    active_sessions: int
    """As many client sessions that run a statement are too many."""
    transaction_seconds: float
    """A transaction of this age is too old."""
    bloat_ratio: float
    bloat_bytes: int
    report_days: int
    report_least: int
    command_lock: str
    """Name of the Lease that a command holds while it changes the stack."""
    benchmark: BenchmarkPlan | None = None
    """None in a plan that was written before there was one."""

    @classmethod
    def from_environment(cls, environment: Environment) -> Plan:
        text = environment.required(VARIABLE, '{"schedule": "daily", "tasks": […]}')
        try:
            return cls.of(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("environment_invalid", f"{VARIABLE} cannot be read: {type(error).__name__} {error}") from None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Plan:
        load, bloat, reports = found["load"], found["bloat"], found["reports"]
        return cls(
            schedule=found["schedule"],
            tasks=[_task(one) for one in found["tasks"]],
            wait_seconds=found["waitSeconds"],
            lock_timeout_seconds=found["lockTimeoutSeconds"],
            active_sessions=load["activeSessions"],
            transaction_seconds=load["transactionSeconds"],
            bloat_ratio=bloat["ratio"],
            bloat_bytes=bloat["bytes"],
            report_days=reports["days"],
            report_least=reports["least"],
            command_lock=found["commandLock"],
            benchmark=_benchmark(found["benchmark"]) if found.get("benchmark") else None,
        )

    def select(self, names: Sequence[str]) -> Sequence[Task]:
        """The tasks of these names, in the plan's order; all of them without any."""
        known = [task.name for task in self.tasks]
        if unknown := [name for name in names if name not in known]:
            raise Refused(
                "task_unknown",
                f"no task {', '.join(unknown)} in the {self.schedule} maintenance; there are {', '.join(known)}",
            )
        return [task for task in self.tasks if not names or task.name in names]


def _benchmark(found: Mapping[str, Any]) -> BenchmarkPlan:
    return BenchmarkPlan(
        paths=found["paths"],
        requests=found["requests"],
        pause_seconds=found["pauseMilliseconds"] / 1000,
        regression_percent=found["regressionPercent"],
        least_milliseconds=found["leastMilliseconds"],
    )


def _task(found: Mapping[str, Any]) -> Task:
    return Task(
        name=found["name"],
        task=found.get("task"),
        argvs=found.get("argvs") or (),
        timeout_seconds=found["timeoutSeconds"],
        retries=found["retries"],
        continue_on_error=found["continueOnError"],
        report=found.get("report"),
        fail_on=found.get("failOn"),
    )
