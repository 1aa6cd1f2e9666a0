"""`python -m tasks exporter`: metrics of the backups and restore tests in the store.

And, with ROTATION_STATUS, of the rotation of secrets (see tasks/rotation_status.py), with MAINTENANCE_SCHEDULES of
maintenance (see tasks/maintenance_tasks/metrics.py) and with PAGE_CHECK of pages (see tasks/pages/metrics.py).

It is read every EXPORTER_REFRESH_SECONDS (30) in the background, so a scrape is answered at once, and with the last
known state while the store is away. Times are 0 for what never happened: old beyond every limit, and not absent.

Environment: BACKUP_STORE and its credentials; EXPORTER_PORT, EXPORTER_HOST (all addresses); what is expected,
each optional: BACKUP_INTERVAL_SECONDS, RESTORE_TEST_MAX_AGE_HOURS; and, to see whether cleanup does its work, the
same BACKUP_RETENTION_DAYS, BACKUP_KEEP_… as it has; BACKUP_SIZE_RATIO (0.5), below which a backup is too small to be
compared with, and BACKUP_SIZE_ACCEPTED, the backup whose size an operator accepted.
Paths: /metrics, /healthz, /readyz (ready after the first reading).

The alerts, as expressions:

    the store cannot be read         runbook_backup_store_up == 0
    the exporter does not read       time() - runbook_backup_store_read_timestamp_seconds > 600
    no backup within 2 intervals     time() - runbook_backup_last_scheduled_timestamp_seconds
                                       > 2 * runbook_backup_interval_seconds
    the schedule never ran           runbook_backup_last_scheduled_timestamp_seconds == 0   (for: 2 intervals)
    no proven restore in the limit   time() - runbook_backup_last_proven_timestamp_seconds
                                       > runbook_restore_test_max_age_seconds
    the restore test failed          runbook_restore_test_passed == 0
    the restore test never ran       runbook_restore_test_last_timestamp_seconds == 0   (for: its interval)
    size fell by half                runbook_backup_size_bytes < 0.5 * runbook_backup_previous_size_bytes
    the same, for one day            runbook_backup_size_bytes < 0.5 * max_over_time(runbook_backup_size_bytes[1d])
    retention fails                  runbook_backup_retention_problems > 0
    evidence was changed             runbook_restore_test_evidence_intact == 0
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from typing import Any, cast

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from tasks.backup import catalog, retention
from tasks.backup.manifest import Manifest, name_other_owner
from tasks.backup.proofs import Proof, newest_passed, trusted_proofs
from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.maintenance_tasks.metrics import maintenance
from tasks.pages.metrics import pages
from tasks.progress import say
from tasks.result import Result
from tasks.rotation_status import rotation
from tasks.serving import serve
from tasks.store import Entry, Store, open_store
from tasks.store.window import serve as serve_store

_REFRESH_SECONDS = 30


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)


def _run(_arguments: argparse.Namespace, environment: Environment) -> Result:
    port = environment.integer("EXPORTER_PORT", least=1) or environment.refuse("EXPORTER_PORT", "a port")
    seconds = environment.integer("EXPORTER_REFRESH_SECONDS", least=1) or _REFRESH_SECONDS
    exporter = Exporter(environment, open_store(environment))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = serve(environment.text("EXPORTER_HOST") or "", port, exporter)
    window = _serve_store(environment)
    say(f"exporter: listening on port {server.server_port}, reading the store every {seconds} s")
    while not ended.is_set():
        exporter.refresh()
        ended.wait(seconds)
    for each in filter(None, (server, window)):
        each.shutdown()
    return Result({}, "ended")


def _serve_store(environment: Environment) -> ThreadingHTTPServer | None:
    """With STORE_PORT, the store itself, for those with STORE_TOKEN: restore tests have no way to it of their own."""
    port = environment.integer("STORE_PORT", least=1)
    if port is None:
        return None
    token = environment.required("STORE_TOKEN", "a long random text")
    return serve_store(open_store(environment), environment.text("EXPORTER_HOST") or "", port, token)


class Exporter:
    """The newest known state, as metrics."""

    def __init__(self, environment: Environment, store: Store) -> None:
        self._environment = environment
        self._store = cast(Store, _Remembering(store))
        self._ratio = environment.fraction("BACKUP_SIZE_RATIO") or 0.5
        self._known: list[Metric] = []
        self._read_at = 0.0
        self._metrics: list[Metric] = []

    @property
    def ready(self) -> bool:
        """False until the first read of the store."""
        return bool(self._metrics)

    def collect(self) -> Sequence[Metric]:
        return self._metrics

    def refresh(self) -> None:
        now = datetime.now(UTC)
        up = 1.0
        try:
            self._known = list(self._state(now))
            self._read_at = now.timestamp()
        except TaskError as error:
            say(f"warning: the store cannot be read: {error}")
            up = 0.0
        about = [
            GaugeMetricFamily("runbook_backup_store_up", "1 if the store could be read the last time.", up),
            GaugeMetricFamily("runbook_backup_store_read_timestamp_seconds", "When it could be read.", self._read_at),
        ]
        self._metrics = [*about, *_expectations(self._environment), *rotation(self._environment), *self._known]

    def _state(self, now: datetime) -> Iterator[Metric]:
        backups = catalog.manifests(self._store)
        try:
            tests, intact = trusted_proofs(self._store), 1.0
        except TaskError as error:
            if error.code != "evidence_broken":
                raise
            say(f"warning: {error}")
            tests, intact = [], 0.0
        # Of others that share the store, retention alone has to know.
        stack, origins = self._environment.text("BACKUP_STACK"), {backup.id: backup.origin for backup in backups}
        ours = [each for each in backups if not name_other_owner(each.origin, stack, None)]
        of = {test.sequence: test.origin or origins.get(test.backup or "") for test in tests}
        our_tests = [test for test in tests if not name_other_owner(of[test.sequence], stack, None)]
        yield from _of_backups(ours)
        yield from self._sizes(ours, our_tests)
        yield from _of_tests(our_tests)
        yield GaugeMetricFamily(
            "runbook_restore_test_evidence_intact", "1 if the chain of records is unbroken.", intact
        )
        if self._environment.text("BACKUP_RETENTION_DAYS"):
            yield self._retention(backups, tests, now)
        yield from maintenance(self._environment, self._store)
        yield from pages(self._environment, self._store)

    def _sizes(self, backups: Sequence[Manifest], tests: Sequence[Proof]) -> Iterator[Metric]:
        """Of the newest scheduled backup, and of the one that it is compared with."""
        proven, accepted = (
            {test.backup for test in tests if test.passed},
            self._environment.text("BACKUP_SIZE_ACCEPTED"),
        )
        # A backup's id begins with its time, and `backups` has the newest first.
        scheduled = [each for each in backups if each.kind == "scheduled" and each.id >= (accepted or "")]
        usual = find_usual(scheduled[1:], proven, self._ratio)
        yield GaugeMetricFamily(
            "runbook_backup_size_bytes",
            "Size of the newest scheduled backup.",
            scheduled[0].size_bytes if scheduled else None,
        )
        yield GaugeMetricFamily(
            "runbook_backup_previous_size_bytes",
            "Size of the last proven scheduled backup before it that had not shrunk itself.",
            usual and usual.size_bytes,
        )

    def _retention(self, backups: Sequence[Manifest], tests: Sequence[Proof], now: datetime) -> Metric:
        """Backups that cleanup should have deleted, or why it cannot run."""
        problems = {"overdue": 0, "invalid": 0, "clock": 0}
        # Cleanup runs after a backup: what became due since the last two may wait for the next.
        grace = timedelta(seconds=2 * (self._environment.integer("BACKUP_INTERVAL_SECONDS", least=1) or 0))
        try:
            rules = retention.Retention.from_environment(self._environment)
            retention.check_clock(backups, now, self._store.clock())
            needed = self._environment.words("BACKUP_KEEP_IDS")
            verdicts = retention.decide(backups, rules, now - grace, proven=newest_passed(tests), needed=needed)
            problems["overdue"] = sum(not verdict.why for verdict in verdicts)
        except Refused as error:
            say(f"warning: {error}")
            problems["clock" if error.code == "clock_wrong" else "invalid"] = 1
        return _by_label(
            "runbook_backup_retention_problems",
            "Backups that cleanup should have deleted (overdue), or 1 if it cannot work (invalid, clock).",
            "problem",
            problems,
        )


def _expectations(environment: Environment) -> Iterator[Metric]:
    interval = environment.integer("BACKUP_INTERVAL_SECONDS", least=1)
    yield GaugeMetricFamily("runbook_backup_interval_seconds", "How often a backup is scheduled.", interval)
    hours = environment.integer("RESTORE_TEST_MAX_AGE_HOURS", least=1)
    yield GaugeMetricFamily(
        "runbook_restore_test_max_age_seconds", "How old the last proven restore may be.", hours and hours * 3600
    )


def _of_backups(backups: Sequence[Manifest]) -> Iterator[Metric]:
    """`backups` newest first."""
    newest = backups[0] if backups else None
    scheduled = next((backup for backup in backups if backup.kind == "scheduled"), None)
    yield GaugeMetricFamily("runbook_backups", "Backups in the store.", len(backups))
    yield GaugeMetricFamily(
        "runbook_backup_last_success_timestamp_seconds",
        "The moment of which the newest backup is; 0 if there is none.",
        _seconds(newest and newest.created_at),
    )
    yield GaugeMetricFamily(
        "runbook_backup_last_scheduled_timestamp_seconds",
        "The same of the newest one that the schedule made.",
        _seconds(scheduled and scheduled.created_at),
    )
    yield GaugeMetricFamily(
        "runbook_backup_database_bytes", "Size of the database then.", newest and newest.database_bytes
    )


def find_usual(backups: Sequence[Manifest], proven: Collection[str | None], ratio: float) -> Manifest | None:
    """The backup whose size is the usual one: the newest proven one (without any, the newest) that is not much smaller
    than the usual one before it. One that shrank does not become usual by a restore test, which compares it with what
    was backed up. `backups` newest first."""
    usual: Manifest | None = None
    for each in reversed(backups):
        if usual is None or (
            each.size_bytes >= ratio * usual.size_bytes and (each.id in proven or usual.id not in proven)
        ):
            usual = each
    return usual


def _of_tests(tests: Sequence[Proof]) -> Iterator[Metric]:
    """`tests` oldest first."""
    last = tests[-1] if tests else None
    passed = next((test for test in reversed(tests) if test.passed), None)
    yield GaugeMetricFamily(
        "runbook_backup_last_proven_timestamp_seconds",
        "When a restore test last passed; 0 if none ever did.",
        _seconds(passed and passed.at),
    )
    yield GaugeMetricFamily(
        "runbook_restore_test_last_timestamp_seconds",
        "When the last restore test ended, however it did; 0 if there was none.",
        _seconds(last and last.at),
    )
    yield GaugeMetricFamily(
        "runbook_restore_test_passed", "1 if the last restore test passed.", last and float(last.passed)
    )
    yield GaugeMetricFamily(
        "runbook_restore_test_rto_seconds",
        "From the start of fetching to a smoked release, in the last test that passed.",
        passed and passed.rto_seconds,
    )
    yield GaugeMetricFamily(
        "runbook_restore_test_rpo_seconds",
        "Age of the newest backup at the start of it.",
        passed and passed.rpo_seconds,
    )
    results = {"passed": sum(test.passed for test in tests)}
    results["failed"] = len(tests) - results["passed"]
    yield _by_label("runbook_restore_test_records", "Restore tests on record.", "result", results)


def _by_label(name: str, help_: str, label: str, values: Mapping[str, float]) -> Metric:
    made = GaugeMetricFamily(name, help_, labels=[label])
    for value, number in values.items():
        made.add_metric([value], number)
    return made


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


class _Remembering:
    """A store that reads an object once, until listing shows another one under its key."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listed: dict[str, Entry] = {}
        self._read: dict[str, tuple[Entry, bytes]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        found = list(self._store.entries(prefix))
        gone = {key for key in self._listed if key.startswith(prefix)} - {entry.key for entry in found}
        for key in gone:
            self._listed.pop(key)
            self._read.pop(key, None)
        self._listed.update((entry.key, entry) for entry in found)
        return iter(found)

    def get(self, key: str) -> bytes:
        listed, read = self._listed.get(key), self._read.get(key)
        if listed and read and read[0] == listed:
            return read[1]
        data = self._store.get(key)
        if listed:
            self._read[key] = listed, data
        return data
