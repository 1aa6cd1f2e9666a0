"""Two renames as one: another database replaces the live PostgreSQL database while no client is connected.

ALTER DATABASE … RENAME takes an exclusive lock on the database, for which every new connection has to wait, and it
can be part of a transaction. So while the sessions of old are ended, no new one comes in; and when this process or
the server dies, the transaction is gone, the lock with it, and the live database is what it was. ALLOW_CONNECTIONS
false would do the first as well, but would stay behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from psycopg import Connection, Error, sql
from psycopg.errors import LockNotAvailable, ObjectInUse

from tasks.errors import TaskError
from tasks.progress import say

Connect = Callable[[], Connection[Any]]
_BETWEEN_SECONDS = 0.05
_SESSIONS = """
SELECT pid, concat_ws(' ', coalesce(usename, backend_type), nullif(application_name, ''), host(client_addr))
FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()
  AND coalesce(backend_type, 'hidden') <> 'autovacuum worker'
"""
"""Also workers of extensions, such as pg_cron's; a rename ends the autovacuum by itself. Without pg_read_all_stats
another role's session has no type."""
_COMMENT = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s
"""


def swap_databases(connect: Connect, live: str, incoming: str, outgoing: str) -> None:
    """`live` becomes `outgoing` and `incoming` becomes `live`; each place keeps its comment. All of it or nothing."""
    with closing(connect()) as server:
        live_comment, copy_comment = (server.execute(_COMMENT, (name,)).fetchone()[0] for name in (live, incoming))  # type: ignore[index]
        try:
            with _emptied(connect, (live, incoming)), server.transaction():
                server.execute("SET LOCAL lock_timeout = '10s'")
                _rename(server, live, outgoing)
                _rename(server, incoming, live)
                comment(server, live, live_comment)
                comment(server, outgoing, copy_comment)
        except (ObjectInUse, LockNotAvailable) as error:
            raise _in_use(server, (live, incoming), error) from error
        except Error as error:
            raise TaskError(
                "database_refused",
                f"{live} could not be renamed: {error}. The role of DATABASE_URL must own it and have CREATEDB",
            ) from error


def rename(connect: Connect, old: str, new: str, text: str | None) -> None:
    """Set name and comment while no client is connected."""
    with closing(connect()) as server, _emptied(connect, [old]), server.transaction():
        _rename(server, old, new)
        comment(server, new, text)


def _rename(server: Connection[Any], old: str, new: str) -> None:
    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def comment(server: Connection[Any], name: str, text: str | None) -> None:
    server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text)))


@contextmanager
def _emptied(connect: Connect, names: Iterable[str]) -> Iterator[None]:
    """End every session in these databases until the block ends."""
    done = threading.Event()
    thread = threading.Thread(target=_end_sessions, args=(connect, list(names), done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end_sessions(connect: Connect, names: list[str], done: threading.Event) -> None:
    try:
        with closing(connect()) as server:
            while not done.is_set():
                for pid, _who in server.execute(_SESSIONS, (names,)).fetchall():
                    try:
                        server.execute("SELECT pg_terminate_backend(%s)", (pid,))
                    except Error:  # another role's session: the rename fails, and `_in_use` names it
                        continue
                done.wait(_BETWEEN_SECONDS)
    except Error as error:
        say(f"warning: sessions could not be ended: {error}")


def _in_use(server: Connection[Any], names: Iterable[str], error: Error) -> TaskError:
    sessions = sorted({who for _pid, who in server.execute(_SESSIONS, (list(names),)).fetchall()})
    return TaskError(
        "database_in_use",
        f"{error.diag.message_primary} ({error.diag.message_detail or 'no detail'}); nothing was changed. "
        f"Connected: {', '.join(sessions) or 'no sessions'}. Grant pg_signal_backend to the role of DATABASE_URL, "
        "or end them",
    )
