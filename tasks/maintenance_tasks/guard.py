"""When maintenance must not work: during a release, a backup, a migration, a restore, and under load.

Maintenance gives way: it holds no lock that those wait for. What it runs is stopped within a second or two of their
beginning, and begun again when they have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from tasks.backup.migration_guard import MAINTENANCE as NAME
from tasks.backup.patience import Patience
from tasks.backup.postgres import Database
from tasks.backup.postgres_source import LOCK
from tasks.errors import TaskError
from tasks.maintenance_tasks.api import Api
from tasks.maintenance_tasks.plan import Plan
from tasks.progress import say

# The lock of a restore may be held by a session of another database of the server.
_LOCKS = """
SELECT DISTINCT what FROM (VALUES
    ('a backup or a migration runs', %(backup)s::bigint),
    ('a restore runs', hashtextextended('runbook restore of ' || current_database(), 0))
  ) AS known (what, key)
  JOIN pg_locks l ON l.locktype = 'advisory' AND l.objsubid = 1
   AND (l.classid::bigint << 32 | l.objid::bigint) = key
WHERE l.pid <> pg_backend_pid()
  AND (key <> %(backup)s OR l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_ALONE = "SELECT pg_try_advisory_lock(hashtextextended('runbook maintenance', 0))"
_LOAD = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state IS NULL),
       coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND application_name <> %s
"""


class Guard:
    """Asks the database and, where there is one, the API server."""

    def __init__(self, database: Database, api: Api | None, plan: Plan) -> None:
        self._database, self._api, self._plan = database, api, plan
        self._said = False

    @contextmanager
    def alone(self, patience: Patience, wait: Callable[[float], object]) -> Iterator[None]:
        """One run at a time."""
        connection = self.connect()
        try:
            while not _row(connection, _ALONE)[0]:
                wait(patience.spend(TaskError("maintenance_running", "another maintenance run is running"), most=5))
            yield
        finally:
            connection.close()

    def connect(self) -> Connection[Any]:
        return self._database.connect(NAME)

    def look(self) -> Look:
        return Look(self, self.connect())

    def find_reason(self, connection: Connection[Any]) -> str | None:
        """Why nothing may run now."""
        try:
            found = [what for (what,) in connection.execute(_LOCKS, {"backup": LOCK}).fetchall()]
        except psycopg.Error as error:
            # As a restore in place ends every session of the database that it replaces.
            return f"the database is away: {' '.join(str(error).split())}"
        return "; ".join(sorted(found)) or None

    def find_command(self) -> str | None:
        """Who changes the stack."""
        return self._api.find_command(self._plan.command_lock) if self._api else None

    def find_load(self, connection: Connection[Any]) -> str | None:
        """Why the database is too busy."""
        # The login may see other sessions than the role that it works as.
        connection.execute("SET ROLE NONE")
        active, hidden, oldest = _row(connection, _LOAD, NAME)
        if hidden and not self._said:
            self._said = True
            say(f"warning: {hidden} sessions of other roles do not count towards the load: GRANT pg_read_all_stats")
        if active >= self._plan.active_sessions:
            return f"{active} sessions run a statement (load.activeSessions: {self._plan.active_sessions})"
        if oldest >= self._plan.transaction_seconds:
            limit = f"{self._plan.transaction_seconds:.0f}"
            return f"a transaction is {oldest:.0f} s old (load.transactionSeconds: {limit})"
        return None


class Look:
    """What holds maintenance back now, asked on one connection."""

    def __init__(self, guard: Guard, connection: Connection[Any]) -> None:
        self._guard, self._connection = guard, connection

    @property
    def closed(self) -> bool:
        return self._connection.closed

    def find_reason(self) -> str | None:
        return self._guard.find_reason(self._connection)

    def find_load(self) -> str | None:
        return self._guard.find_load(self._connection)

    def close(self) -> None:
        self._connection.close()


def _row(connection: Connection[Any], query: str, *values: Any) -> Any:
    found = connection.execute(query.encode(), values or None).fetchone()
    assert found is not None
    return found
