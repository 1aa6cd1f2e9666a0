"""Sessions of other clients in databases of one PostgreSQL server, and how they are ended.

PostgreSQL lets a role end the sessions of its own login and of roles whose rights it has. A login that rotation made
acts as the owner (ALTER ROLE … SET role): the owner may not end sessions of a login that is a member of it, not even
its own. So each session is ended as the first of these that may: the login itself, the role that its connections get,
the session's own role if the login may become it, and the administrator of DATABASE_ADMIN_URL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Error, sql

from tasks.errors import TaskError
from tasks.progress import say

Connect = Callable[[], Connection[Any]]
_BETWEEN_SECONDS = 0.05
_END_SECONDS = 10.0
_SESSIONS = """
SELECT pid, coalesce(usename, backend_type, 'the server'), coalesce(usesuper, false), application_name,
       host(client_addr)
FROM pg_stat_activity LEFT JOIN pg_user USING (usename)
WHERE datname = ANY(%s) AND pid <> pg_backend_pid() AND pid <> ALL(%s)
  AND coalesce(backend_type, 'hidden') <> 'autovacuum worker'
ORDER BY 2, 1
"""
"""Also workers of extensions, such as pg_cron's; a rename and a drop end the autovacuum by themselves. Without
pg_read_all_stats another role's session has no type and no address."""
_STARTING = """
SELECT FROM pg_locks JOIN pg_database d ON d.oid = objid AND d.datname = %s
WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND pid <> pg_backend_pid()
"""
"""A connection has a lock on its database until it can be seen in pg_stat_activity."""
_PREPARED = "SELECT gid, database FROM pg_prepared_xacts WHERE database = ANY(%s) ORDER BY prepared, gid"
_MAY_SIGNAL = "SELECT pg_has_role('pg_signal_backend', 'USAGE') OR pg_has_role(%s::name, 'USAGE')"


@dataclass(frozen=True)
class Session:
    pid: int
    role: str
    """Who logged in; of a worker without a login, what it is."""
    superuser: bool
    application: str
    address: str | None

    def __str__(self) -> str:
        program = f" by {self.application}" if self.application else ""
        return f"{self.role}{program}{f' from {self.address}' if self.address else ''} (pid {self.pid})"


@contextmanager
def may_signal(admin: Connection[Any], role: str) -> Iterator[None]:
    """Make the administrator a member of the role for as long as the block lasts, where it may not end its sessions.

    In a transaction that is rolled back: no other session sees it, and it does not outlive a killed task.
    """
    exists = admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount > 0
    row = admin.execute(_MAY_SIGNAL, [role]).fetchone() if exists else (True,)
    if row == (True,):
        yield
        return
    inherits = sql.SQL(" WITH INHERIT TRUE" if admin.info.server_version >= 160_000 else "")
    with admin.transaction(force_rollback=True):
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER{}").format(sql.Identifier(role), inherits))
        yield


class Sessions:
    """Both connect outside the databases whose sessions are ended."""

    def __init__(self, connect: Connect, administrator: Connect | None = None) -> None:
        self.connect = connect
        self._administrator = administrator
        self._stay: set[int] = set()
        """Processes whose sessions could not be ended: none of the roles may."""

    @contextmanager
    def ended(self, names: Iterable[str]) -> Iterator[None]:
        """End every session in these databases until the block ends."""
        done = threading.Event()
        thread = threading.Thread(target=self._end_until, args=(list(names), done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def clear(self, name: str, ours: Collection[int]) -> None:
        """End every session in a database that takes no connections any more, except those with the pids `ours`.

        `database_in_use` when one of them stays.
        """
        deadline = time.monotonic() + _END_SECONDS
        with closing(self.connect()) as server, self._ender(server) as ender:
            while True:
                # In this order: what is no longer starting can be seen then.
                starting = server.execute(_STARTING, (name,)).rowcount
                found = list_sessions(server, [name], ours)
                if not starting and not found:
                    return
                if time.monotonic() > deadline:
                    raise self.in_use(server, [name], found, f"{name} is still used")
                for session in found:
                    ender.end(session)
                time.sleep(_BETWEEN_SECONDS)

    def in_use(self, server: Connection[Any], names: Iterable[str], found: Sequence[Session], what: str) -> TaskError:
        """The error that says who uses these databases, and what to grant or to end."""
        return TaskError(
            "database_in_use",
            f"{what}; nothing was changed. Connected: {', '.join(map(str, found)) or 'no sessions'}"
            f"{self._remedy(server, found) + _prepared(server, names) or '. Run this again'}",
        )

    def _remedy(self, server: Connection[Any], found: Iterable[Session]) -> str:
        stay = [session for session in found if session.pid in self._stay]
        login = sql.Identifier(server.info.user).as_string(server)
        said = ""
        if roles := sorted({session.role for session in stay if not session.superuser}):
            grants = [f"GRANT {sql.Identifier(role).as_string(server)} TO {login}" for role in roles]
            said += f". {login} may not end sessions of {', '.join(roles)}: as the administrator that made these roles "
            said += (
                f"or as a superuser, run {'; '.join(grants)}; or, as a superuser, GRANT pg_signal_backend TO {login}"
            )
        if pids := [session.pid for session in stay if session.superuser]:
            ending = "; ".join(f"SELECT pg_terminate_backend({pid})" for pid in pids)
            said += f". Only a superuser may end a superuser's session: {ending}"
        return said

    def _end_until(self, names: list[str], done: threading.Event) -> None:
        try:
            with closing(self.connect()) as server, self._ender(server) as ender:
                while not done.is_set():
                    for session in list_sessions(server, names):
                        ender.end(session)
                    done.wait(_BETWEEN_SECONDS)
        except (Error, TaskError) as error:
            say(f"warning: sessions could not be ended: {error}")

    @contextmanager
    def _ender(self, server: Connection[Any]) -> Iterator[_Ender]:
        self._stay.clear()
        ender = _Ender(server, self._administrator, self._stay)
        try:
            yield ender
        finally:
            ender.close()


def _prepared(server: Connection[Any], names: Iterable[str]) -> str:
    """What to do about transactions of two phases (PREPARE TRANSACTION), which use a database without a session."""
    found = server.execute(_PREPARED, (list(names),)).fetchall()
    if not found:
        return ""
    ends = "; ".join(f"in {name}, COMMIT PREPARED {sql.Literal(gid).as_string(server)}" for gid, name in found)
    return (
        ". Transactions are prepared, and neither committed nor rolled back: ask the program that prepared them, and "
        f"run, {ends}, or ROLLBACK PREPARED"
    )


def list_sessions(server: Connection[Any], names: Iterable[str], ours: Collection[int] = ()) -> list[Session]:
    """Sessions in these databases, without this connection's own and those with the pids `ours`."""
    return [Session(*row) for row in server.execute(_SESSIONS, (list(names), list(ours))).fetchall()]


class _Ender:
    """Ends sessions as the first role that may; `stay` gets those that none may end."""

    def __init__(self, server: Connection[Any], administrator: Connect | None, stay: set[int]) -> None:
        self._server = server
        self._connect_administrator = administrator
        self._admin: Connection[Any] | None = None
        self._stay = stay
        self._own: str = server.execute("SELECT current_user::text").fetchall()[0][0]

    def end(self, session: Session) -> None:
        if session.pid not in self._stay and not self._end(session):
            self._stay.add(session.pid)

    def close(self) -> None:
        if self._admin:
            self._admin.close()

    def _end(self, session: Session) -> bool:
        for role in ("none", self._own, session.role):
            try:
                self._server.execute("SELECT set_config('role', %s, false)", (role,))
                self._server.execute("SELECT pg_terminate_backend(%s)", (session.pid,))
            except Error:
                continue
            return True
        admin = self._administrator()
        if admin is None:
            return False
        try:
            with may_signal(admin, session.role):
                admin.execute("SELECT pg_terminate_backend(%s)", (session.pid,))
        except Error:
            return False
        return True

    def _administrator(self) -> Connection[Any] | None:
        if self._admin is None and self._connect_administrator:
            connect, self._connect_administrator = self._connect_administrator, None
            try:
                self._admin = connect()
            except TaskError as error:
                say(f"warning: sessions of other logins cannot be ended by the administrator: {error}")
        return self._admin
