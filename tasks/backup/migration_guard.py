"""`backup guard-migration`: beside a release's migration, so that neither a backup nor a lock stops the customers.

A migration that changes a table waits for every session that uses it, and each later one waits for the migration.
So no backup runs meanwhile, and a migration that waits for a lock for too long is cancelled. Only a session beside it
can do both for every tool: not all of them pass a `lock_timeout` on, and none says who held the lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.errors import InsufficientPrivilege

from tasks.backup.patience import Patience
from tasks.backup.postgres_source import PostgresSource
from tasks.backup.source import open_source
from tasks.environment import Environment
from tasks.errors import Interrupted, TaskError
from tasks.progress import say

MAINTENANCE = "runbook maintenance"
"""application_name of maintenance runs' sessions."""
_EVERY_SECONDS = 0.5
_MAINTENANCE_SECONDS = 15
_WAITING = """
SELECT waiting.pid, coalesce(wanted.relation::regclass::text, wanted.locktype)
FROM pg_stat_activity waiting JOIN pg_locks wanted ON wanted.pid = waiting.pid AND NOT wanted.granted
WHERE waiting.datname = current_database() AND waiting.pid <> pg_backend_pid()
  AND waiting.client_addr IS NOT DISTINCT FROM inet_client_addr()
  AND EXISTS (SELECT FROM pg_locks strong WHERE strong.pid = waiting.pid AND strong.locktype = 'relation'
              AND strong.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
"""
"""Sessions of this pod that wait for a lock while others queue behind them: they ask for, or hold, one that no request
of an application takes. What `CREATE INDEX CONCURRENTLY` waits for blocks no client, and may last."""
_HOLDERS = """
SELECT pid, usename, nullif(application_name, ''), client_addr, state, coalesce(xact_start, backend_start), backend_type
FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(%s)) ORDER BY 6
"""
_MAINTENANCE = """
SELECT a.pid FROM pg_stat_activity a
WHERE a.application_name = %s AND a.datname = current_database()
  AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation'
              AND l.mode = 'ShareUpdateExclusiveLock')
"""
"""Sessions of maintenance that work on a table. The rebuild of an index waits for the migration's transaction, and that
for the rebuild: a deadlock, of which the server ends either."""


def guard_migration(environment: Environment, *, level: int, lock_seconds: int, ready: Path) -> None:
    """Until SIGTERM. `ready` is made when the migration may begin; `migration_locked` if one had to be cancelled."""
    source = open_source(environment)
    if not isinstance(source, PostgresSource):
        raise TaskError("environment_invalid", "only PostgreSQL's migrations are guarded: SQLite has one writer")
    cancelled: list[str] = []
    try:
        with _connected(source, environment, level) as connection:
            ready.touch()
            _watch(connection, lock_seconds, cancelled)
    except TaskError as error:
        if error.code != "backup_running":
            ready.touch()  # the migration itself says better what it cannot do
        raise
    except Interrupted:
        if cancelled:
            raise TaskError("migration_locked", "; ".join(cancelled)) from None
        say("the migration has ended")


@contextmanager
def _connected(source: PostgresSource, environment: Environment, level: int) -> Iterator[Connection[Any]]:
    """With the lock of backups, unless there is nothing to migrate."""
    found = source.level()
    if found is not None and found >= level:
        say(f"the database is at schema level {found}: backups may run meanwhile")
        with source.connected() as connection:
            yield connection
        return
    with source.locked(Patience.from_environment(environment)) as connection:
        _end_maintenance(connection)
        say("no backup begins until the migration has ended")
        yield connection


def _end_maintenance(connection: Connection[Any]) -> None:
    """Maintenance gives way by itself; cancelled, it does so at once. It begins again when the migration has ended."""
    deadline = time.monotonic() + _MAINTENANCE_SECONDS
    while working := [pid for (pid,) in connection.execute(_MAINTENANCE, (MAINTENANCE,)).fetchall()]:
        if time.monotonic() > deadline:
            say(f"warning: maintenance (pid {', '.join(map(str, working))}) did not stop in time")
            return
        # A login of the rotation may not end sessions of the other one.
        with suppress(InsufficientPrivilege):
            for pid in working:
                connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
        time.sleep(_EVERY_SECONDS)


def _watch(connection: Connection[Any], lock_seconds: int, cancelled: list[str]) -> None:
    since: dict[int, float] = {}
    while True:
        waiting = dict(connection.execute(_WAITING).fetchall()) if lock_seconds else {}
        now = time.monotonic()
        since = {pid: since.get(pid, now) for pid in waiting}
        for pid in [pid for pid, began in since.items() if now - began >= lock_seconds]:
            cancelled.append(_cancel(connection, pid, waiting[pid], lock_seconds))
            say(cancelled[-1])
            del since[pid]
        time.sleep(_EVERY_SECONDS)


def _cancel(connection: Connection[Any], pid: int, wanted: str, seconds: int) -> str:
    holders = "; ".join(_describe(*row) for row in connection.execute(_HOLDERS, (pid,)).fetchall())
    connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
    return (
        f"the migration waited {seconds} s for a lock on {wanted}, and requests waited behind it: it was cancelled. "
        f"The lock was held by {holders or 'a session that has ended'}. Deploy again when that has ended"
    )


def _describe(pid: int, user: str, name: str | None, address: Any, state: str | None, since: Any, kind: str) -> str:
    who = name or (kind if kind != "client backend" else "a session without a name")
    where = f" from {address}" if address else ""
    return f"pid {pid} ({who} of {user or 'the server'}{where}, {state or 'state unknown'}, since {since:%H:%M:%S})"
