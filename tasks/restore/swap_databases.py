"""Two renames as one: another database replaces the live PostgreSQL database while no client is connected.

ALTER DATABASE … RENAME takes an exclusive lock on the database, for which every new connection has to wait, and it
can be part of a transaction. So while the sessions of old are ended, no new one comes in; and when this process or
the server dies, the transaction is gone, the lock with it, and the live database is what it was. ALLOW_CONNECTIONS
false would do the first as well, but would stay behind. DROP DATABASE takes the same lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from typing import Any

from psycopg import Connection, Error, sql
from psycopg.errors import LockNotAvailable, ObjectInUse

from tasks.errors import Refused, TaskError
from tasks.sessions import Sessions, list_sessions

_COMMENT = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s
"""


def swap_databases(sessions: Sessions, live: str, incoming: str, outgoing: str) -> None:
    """`live` becomes `outgoing` and `incoming` becomes `live`; each place keeps its comment. All of it or nothing."""
    with closing(sessions.connect()) as server:
        live_comment, copy_comment = (_read_comment(server, name) for name in (live, incoming))
        try:
            with _unused(sessions, server, (live, incoming)), server.transaction():
                server.execute("SET LOCAL lock_timeout = '10s'")
                _rename(server, live, outgoing)
                _rename(server, incoming, live)
                # A replaced database that was about to be dropped takes none.
                allow_connections(server, live, allow=True)
                comment(server, live, live_comment)
                comment(server, outgoing, copy_comment)
        except Error as error:
            raise TaskError(
                "database_refused",
                f"{live} could not be renamed: {error}. The role of DATABASE_URL must own it and have CREATEDB",
            ) from error


def rename(sessions: Sessions, old: str, new: str, text: str | None) -> None:
    """Set name and comment while no client is connected."""
    with closing(sessions.connect()) as server, _unused(sessions, server, [old]), server.transaction():
        _rename(server, old, new)
        comment(server, new, text)


def drop(sessions: Sessions, name: str) -> None:
    """Drop a database and end its sessions; no error if it does not exist."""
    with closing(sessions.connect()) as server, _unused(sessions, server, [name]):
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def allow_connections(server: Connection[Any], name: str, *, allow: bool) -> None:
    """Whether clients, superusers' too, may begin a session in the database."""
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), allow))


def _rename(server: Connection[Any], old: str, new: str) -> None:
    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def comment(server: Connection[Any], name: str, text: str | None) -> None:
    server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text)))


def _read_comment(server: Connection[Any], name: str) -> str | None:
    row = server.execute(_COMMENT, (name,)).fetchone()
    if row is None:
        raise Refused(
            "restore_phase",
            f"{name} is gone: the server has just ended what a killed command had begun. Run `restore state`, which "
            "says what comes next",
        )
    return row[0]


@contextmanager
def _unused(sessions: Sessions, server: Connection[Any], names: Collection[str]) -> Iterator[None]:
    """End every session in these databases until the block ends; `database_in_use` when one stays."""
    try:
        with sessions.ended(names):
            yield
    except (ObjectInUse, LockNotAvailable) as error:
        what = f"{error.diag.message_primary} ({error.diag.message_detail or 'no detail'})"
        raise sessions.in_use(server, names, list_sessions(server, names), what) from error
