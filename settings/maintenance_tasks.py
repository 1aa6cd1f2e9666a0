"""Preventive maintenance (HerbisVeritas "Maintenance Préventive"): what runs daily, weekly and monthly."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from settings.backup import Backup, Cron, TimeZone
from settings.base import CommandLine, DnsLabel, Finding, Seconds, Settings
from settings.containers import Resources, resources
from settings.cron import longest_gap, longest_gap_in, shortest_gap
from settings.names import COMMAND_LOCK
from settings.platform import Egress

SCHEDULES = ("daily", "weekly", "monthly")
RUNNER, APPLICATION = "runner", "application"
"""Containers of a run: the one that goes through the tasks, and the application's, in which commands run."""

BuiltIn = Literal[
    "analyze", "vacuum-analyze", "reindex", "statistics", "backup-verification", "unused-images", "benchmark"
]  # fmt: skip
"""What the program can do itself."""
Severity = Literal["low", "moderate", "high", "critical"]
_SLACK = 300
"""Seconds of a run besides its tasks and its waiting: images, the report."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def cron_job(schedule: str) -> str:
    """Name of the CronJob of a schedule."""
    return f"maintenance-{schedule}"


class MaintenanceTask(Settings):
    """One step of a run: a built-in task, or a command of the application."""

    task: BuiltIn | None = None
    """Built-in task; docs/maintenance.md says what each does to a SQLite file. `analyze`, `vacuum-analyze`: table by
    table. `reindex`: bloated indexes, concurrently, after what killed rebuilds left is removed. `statistics`: sizes,
    dead rows, cache hits, unused indexes. `backup-verification`: is the newest backup whole, and a restore proven.
    `unused-images`: what the nodes keep of this stack's older images. `benchmark`: how fast the application answers,
    against the run before."""
    run: Annotated[tuple[CommandLine, ...], BeforeValidator(_as_list), Field(examples=["npm run cache:optimize"])] = ()
    """Command lines that run one after another in the release's image instead, with the application's environment.
    Split into words as a shell would."""
    name: Annotated[DnsLabel | None, Field(max_length=40, examples=["cache-optimize"])] = None
    """Its name in reports and for `--task`; without it, that of the built-in task."""
    enabled: bool = True
    """Whether it runs."""
    timeout_seconds: Seconds = 1800
    """Seconds until an attempt is ended and counts as failed; also the statement timeout of what it asks the
    database."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """How often it is tried again after a failure."""
    continue_on_error: bool = True
    """Whether the tasks after it run when it has failed."""
    report: Literal["npm-audit", "pip-audit"] | None = None
    """What the command prints: a JSON report that is taken into the report of the run (`npm audit --json`, `pip-audit
    --format json`). Of other commands, only the pod's own log has the output."""
    fail_on: Severity | None = "high"
    """With `report`: the task fails on a vulnerability of this severity or a higher one; pip-audit knows no severities,
    so that any counts. Null: it reports them, and does not fail."""

    @property
    def title(self) -> str:
        return self.name or self.task or ""

    def _findings(self) -> list[Finding]:
        if bool(self.task) == bool(self.run):
            why = "a task is either built-in (`task`) or a command (`run`)"
            return [Finding(("run",) if self.task else ("task",), why, None if self.task else "analyze")]
        if self.run and not self.name:
            return [Finding(("name",), "a command needs a name for reports", "cache-optimize")]
        if self.task and self.report:
            return [Finding(("report",), "only the output of a command can be such a report")]
        for line in self.run:
            try:
                shlex.split(line)
            except ValueError as error:
                return [Finding(("run",), f"not a command line: {error}", "npm run cache:optimize")]
        return []

    def to_task(self) -> dict[str, Any]:
        """As the runner reads it."""
        return {
            "name": self.title,
            "task": self.task,
            "argvs": [shlex.split(line) for line in self.run],
            "timeoutSeconds": self.timeout_seconds,
            "retries": self.retries,
            "continueOnError": self.continue_on_error,
            "report": self.report,
            "failOn": self.fail_on,
        }


class _Schedule(Settings):
    """When, and which tasks."""

    schedule: Cron
    """When (cron)."""
    suspend: bool = False
    """Start nothing by schedule; `runbook maintenance run` still does."""
    tasks: tuple[MaintenanceTask, ...]
    """Tasks, in order."""

    @property
    def enabled(self) -> tuple[MaintenanceTask, ...]:
        return tuple(task for task in self.tasks if task.enabled)

    def _findings(self) -> list[Finding]:
        names = [task.title for task in self.tasks]
        return [
            Finding(("tasks", place, "name"), f"{name} is already the name of another task", f"{name}-2")
            for place, name in enumerate(names)
            if name in names[:place]
        ]


_AUDIT = MaintenanceTask(name="security-scan", run=("npm audit --json",), report="npm-audit", timeout_seconds=300)


class DailyMaintenance(_Schedule):
    """Daily tasks."""

    schedule: Cron = "0 6 * * *"
    """When (cron)."""
    tasks: tuple[MaintenanceTask, ...] = (
        MaintenanceTask(task="analyze"),
        MaintenanceTask(task="vacuum-analyze"),
        _AUDIT,
        MaintenanceTask(task="statistics"),
    )
    """Tasks, in order."""


class WeeklyMaintenance(_Schedule):
    """Weekly tasks."""

    schedule: Cron = "0 3 * * 0"
    """When (cron)."""
    tasks: tuple[MaintenanceTask, ...] = (
        MaintenanceTask(task="reindex", timeout_seconds=7200),
        MaintenanceTask(task="analyze"),
        _AUDIT.model_copy(update={"name": "vulnerability-scan"}),
        MaintenanceTask(task="backup-verification"),
        MaintenanceTask(task="unused-images"),
        MaintenanceTask(task="statistics"),
    )
    """Tasks, in order."""


class MonthlyMaintenance(_Schedule):
    """Monthly tasks."""

    schedule: Cron = "0 5 1 * *"
    """When (cron)."""
    tasks: tuple[MaintenanceTask, ...] = (
        _AUDIT.model_copy(update={"name": "security-audit"}),
        MaintenanceTask(task="vacuum-analyze"),
        MaintenanceTask(task="reindex", timeout_seconds=7200),
        MaintenanceTask(task="benchmark", timeout_seconds=600),
        MaintenanceTask(task="statistics"),
    )
    """Tasks, in order."""


class Load(Settings):
    """From when on the database is too busy for tasks that work on it, and for commands: they are put off."""

    active_sessions: Annotated[int, Field(ge=1)] = 20
    """Client sessions that run a statement at this moment."""
    transaction_seconds: Annotated[int, Field(ge=1)] = 600
    """Age of the oldest transaction: VACUUM removes nothing that it may still see, and a concurrent rebuild of an index
    waits for it."""


class Bloat(Settings):
    """Which indexes are rebuilt. Measured by `pgstatindex` where pgstattuple is installed, else estimated."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Part of the index that would be free after a rebuild."""
    bytes: Annotated[int, Field(ge=0)] = 10 * 2**20
    """Least number of bytes that would be free then."""


class Benchmark(Settings):
    """What the task `benchmark` requests, and from when on an answer that takes longer than the run before fails it."""

    paths: tuple[Annotated[str, Field(pattern=r"^/", examples=["/shop"])], ...] = ()
    """Paths of the main service, with GET. Without any, that of the health check."""
    requests: Annotated[int, Field(ge=10, le=500)] = 40
    """Requests of each path, one after another."""
    pause_milliseconds: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Milliseconds between two requests."""
    regression_percent: Annotated[float, Field(gt=0, le=1000)] = 25
    """Percent by which the median, or the time that 95 % of the answers keep, is longer than in the run before …"""
    least_milliseconds: Annotated[float, Field(ge=0, le=60_000)] = 20
    """… and milliseconds by which it is longer at least."""


class Reports(Settings):
    """How long reports are kept, below `maintenance/` in the store of backups."""

    days: Annotated[int, Field(ge=1, le=3650)] = 400
    """Everything younger is kept."""
    least: Annotated[int, Field(ge=2)] = 12
    """At least so many of each schedule, whatever their age."""


class MaintenanceTasks(Settings):
    """Preventive maintenance, by three CronJobs. Each needs `runbook:backup`: reports are in its store."""

    api_server: Annotated[
        tuple[Egress, ...], Field(min_length=1, examples=[[{"cidr": "10.0.0.1/32", "ports": [6443]}]])
    ]
    """Addresses of the cluster's API server, for the network policies: its own, not the Service's. A run reads there
    whether a command changes the stack, and the images of nodes."""
    time_zone: TimeZone | None = None
    """Time zone of the schedules; without it, that of backups."""
    daily: DailyMaintenance = DailyMaintenance()
    """Daily tasks."""
    weekly: WeeklyMaintenance = WeeklyMaintenance()
    """Weekly tasks."""
    monthly: MonthlyMaintenance = MonthlyMaintenance()
    """Monthly tasks."""
    wait_seconds: Annotated[int, Field(ge=0, le=14_400)] = 1800
    """Seconds that all waits of a run may take together: for a release, a backup, a migration, a restore or another run
    to end, and for the load to fall. After them, what is left is put off to the next run."""
    lock_timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 2
    """Seconds that a statement waits for a lock, while requests may wait behind it."""
    load: Load = Load()
    """When the database is too busy."""
    bloat: Bloat = Bloat()
    """Which indexes are rebuilt."""
    benchmark: Benchmark = Benchmark()
    """What the task `benchmark` requests."""
    reports: Reports = Reports()
    """How long reports are kept."""
    resources: Resources = resources("100m", "128Mi", "64Mi", limits=("1", "256Mi", "256Mi"))
    """CPU, memory and scratch disk of the runner; commands have `application.jobResources`."""

    def of(self, schedule: str) -> _Schedule:
        found: _Schedule = getattr(self, schedule)
        return found

    def measures(self, schedule: str) -> bool:
        """Whether the schedule has a benchmark."""
        return any(task.task == "benchmark" for task in self.of(schedule).enabled)

    def measuring(self, path: str) -> MaintenanceTasks:
        """With this path to measure, where none is set."""
        given = self.benchmark
        wanted = given if given.paths else given.model_copy(update={"paths": (path,)})
        return self.model_copy(update={"benchmark": wanted})

    @property
    def expected(self) -> tuple[str, ...]:
        """Schedules that run something."""
        return tuple(name for name in SCHEDULES if self.of(name).enabled and not self.of(name).suspend)

    def zone(self, backup: Backup) -> str:
        return self.time_zone or backup.time_zone

    def longest_seconds(self, schedule: str) -> int:
        """Seconds until a run is ended."""
        attempts = sum(task.timeout_seconds * (1 + task.retries) for task in self.of(schedule).enabled)
        return self.wait_seconds + attempts + _SLACK

    def missed_seconds(self, schedule: str, zone: str) -> int:
        """From which age of the last run one was missed. A run that the clock skips, once a year, was not."""
        when = self.of(schedule).schedule
        gap = max(longest_gap(when), longest_gap_in(when, zone))
        return int((gap + timedelta(seconds=self.longest_seconds(schedule))).total_seconds())

    def to_plan(self, schedule: str) -> dict[str, Any]:
        """What the runner is passed: no value of it is secret."""
        return {
            "schedule": schedule,
            "tasks": [task.to_task() for task in self.of(schedule).enabled],
            "waitSeconds": self.wait_seconds,
            "lockTimeoutSeconds": self.lock_timeout_seconds,
            "load": self.load.to_config(),
            "bloat": self.bloat.to_config(),
            "reports": self.reports.to_config(),
            **({"benchmark": self.benchmark.to_config()} if self.measures(schedule) else {}),
            "commandLock": COMMAND_LOCK,
        }

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        for schedule in SCHEDULES:
            longest, between = self.longest_seconds(schedule), shortest_gap(self.of(schedule).schedule)
            if longest > between.total_seconds():
                why = f"a run may take {longest} s, and the next begins after {between.total_seconds():.0f} s"
                found.append(Finding((schedule, "schedule"), why))
        return found
