"""What a task works with: the database with limits, and a way to be stopped from another thread."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.errors import LockNotAvailable, QueryCanceled

from tasks.backup.sqlite import opened
from tasks.environment import Environment
from tasks.errors import Interrupted, TaskError
from tasks.maintenance_tasks.guard import Guard
from tasks.maintenance_tasks.plan import Plan, Task
from tasks.maintenance_tasks.sqlite_guard import SqliteGuard

Query = str | sql.Composed | sql.SQL
_CANCEL_SECONDS = 5


class Stopped(Exception):
    """The task was stopped: something that comes first began (`gives_way`), or its time was over."""

    def __init__(self, why: str, *, gives_way: bool) -> None:
        super().__init__(why)
        self.gives_way = gives_way


@dataclass(frozen=True)
class Outcome:
    """What a task found and did."""

    notes: Sequence[str] = ()
    """For people, a line each."""
    measures: dict[str, float] = field(default_factory=dict[str, float])
    """Numbers by what they are of; a report compares them with those of the last run."""
    failure: str | None = None
    """Why the task failed although it ran to its end."""


class Context:
    """One attempt of one task."""

    def __init__(self, environment: Environment, plan: Plan, task: Task, guard: Guard | SqliteGuard) -> None:
        self.environment, self.plan, self.task = environment, plan, task
        self._guard = guard
        self._deadline = time.monotonic() + task.timeout_seconds
        self._stopped: Stopped | None = None
        self._cancel: Callable[[], object] | None = None
        self._changing = threading.Lock()

    @property
    def left(self) -> float:
        """Seconds until the attempt is ended."""
        return self._deadline - time.monotonic()

    def stop(self, stopped: Stopped) -> None:
        """From another thread; again and again until the task has ended, since a cancel between two statements is
        lost."""
        with self._changing:
            self._stopped = self._stopped or stopped
            cancel = self._cancel
        if cancel:
            cancel()

    def require_going(self) -> None:
        """Raise if the task has been stopped."""
        if self._stopped is None and self.left <= 0:
            self._stopped = time_is_over(self.task)
        if self._stopped:
            raise self._stopped

    @contextmanager
    def cancelled_by(self, cancel: Callable[[], object]) -> Iterator[None]:
        """What `stop` calls meanwhile."""
        with self._changing:
            self._cancel = cancel
        try:
            self.require_going()
            yield
        finally:
            with self._changing:
                self._cancel = None

    @contextmanager
    def connected(self) -> Iterator[Connection[Any]]:
        """The live PostgreSQL, with limits on locks and statements."""
        guard = self._guard
        assert isinstance(guard, Guard)
        connection = guard.connect()

        def cancel() -> None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)

        limits = {
            "lock_timeout": f"{self.plan.lock_timeout_seconds:.0f}s",
            "statement_timeout": f"{max(1, round(self.left * 1000))}ms",
            "idle_in_transaction_session_timeout": "0",
        }
        try:
            for name, value in limits.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
            with self.cancelled_by(cancel):
                yield connection
        except (Interrupted, KeyboardInterrupt):
            cancel()  # else the server works on
            raise
        except QueryCanceled as error:
            self.require_going()
            # What guards a migration cancels it, too.
            if reason := guard.find_reason(connection):
                raise Stopped(reason, gives_way=True) from None
            raise TaskError("statement_cancelled", _one_line(error)) from None
        except LockNotAvailable as error:
            raise TaskError("lock_timeout", _one_line(error)) from None
        except psycopg.OperationalError as error:
            self.require_going()
            raise TaskError("database_unreachable", f"the database went away: {_one_line(error)}") from None
        except psycopg.Error as error:
            raise TaskError("database_refused", _one_line(error)) from None
        finally:
            connection.close()

    @property
    def database_file(self) -> Path:
        """The live SQLite file."""
        assert isinstance(self._guard, SqliteGuard)
        return self._guard.path

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The live SQLite file, with a limit on locks. What stops the task interrupts the statement."""
        with opened(self.database_file, busy_seconds=self.plan.lock_timeout_seconds) as connection:
            try:
                with self.cancelled_by(connection.interrupt):
                    yield connection
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname == "SQLITE_INTERRUPT":
                    self.require_going()
                raise

    def run(self, connection: sqlite3.Connection, statement: str) -> bool:
        """A statement outside a transaction; False when it did not get a lock in time."""
        self.require_going()
        try:
            connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                return False
            raise
        return True

    def ask(self, connection: sqlite3.Connection, query: str) -> list[Any]:
        """The answer to a query."""
        self.require_going()
        return connection.execute(query).fetchall()

    def execute(self, connection: Connection[Any], statement: Query) -> bool:
        """A statement outside a transaction; False when it did not get a lock in time."""
        self.require_going()
        try:
            connection.execute(statement.encode() if isinstance(statement, str) else statement)
        except LockNotAvailable:
            return False
        return True

    def rows(self, connection: Connection[Any], query: str, *values: Any) -> list[Any]:
        """The answer to a query."""
        self.require_going()
        return connection.execute(query.encode(), values or None).fetchall()


def time_is_over(task: Task) -> Stopped:
    return Stopped(f"it did not end within {task.timeout_seconds:.0f} s", gives_way=False)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
