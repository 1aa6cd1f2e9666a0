"""Whether a connection goes through a pooler in transaction mode, which gives each statement any session of the server.

There a lock is taken in one session and released in another, and a setting reaches the client that gets the session
next. Nothing here leaves either: it only reads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import scalar_row

from tasks.connection_url import PAST_A_POOLER
from tasks.errors import Refused

_TRIES = 3


def require_direct(connection: Connection[Any], another: Callable[[], Connection[Any]], shown: str) -> None:
    """`database_pooled` when two connections get the same session of the server, or one gets several.

    `another` begins a second connection. One straight to the server costs a query: only a proxy of any kind has
    another number of the session than the server itself.
    """
    if _session(connection) == connection.info.backend_pid or not _is_shared(connection, another):
        return
    raise Refused(
        "database_pooled",
        f"{shown} is a pooler in transaction mode: locks and settings of backups, restores and rotations would reach "
        f"other clients' sessions. Nothing was changed. {PAST_A_POOLER}",
    )


def _is_shared(connection: Connection[Any], another: Callable[[], Connection[Any]]) -> bool:
    try:
        with closing(another()) as other:
            seen: set[int] = set()
            for _ in range(_TRIES):
                # Twice: a pooler that takes its sessions in turn may always give this one the same of two.
                seen |= {_session(connection), _session(connection)}
                with other.transaction():
                    if len(seen) > 1 or _session(other) in seen:
                        return True
    except psycopg.OperationalError:
        return False  # the server takes no more connections: a pooler would
    return False


def _session(connection: Connection[Any]) -> int:
    # Unprepared: a prepared statement would stay in the pool's session. The connection's own rows may be of any kind.
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("SELECT pg_backend_pid()", prepare=False).fetchall()[0]
