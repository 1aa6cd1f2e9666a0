"""PostgreSQL roles. Each session of a role acts as the owner (ALTER ROLE … SET role), which owns what it creates."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg
from psycopg import Connection, sql

from tasks.backup.postgres import Database
from tasks.credentials.server import Account, Use
from tasks.errors import Refused, TaskError
from tasks.progress import say
from tasks.sessions import may_signal

_APPLICATION = "runbook credentials"
# libpq does not report the SQLSTATE of a failed login. A message in another language than English is not classified.
_REFUSALS = ("password authentication failed", "is not permitted to log in")
_END_MILLISECONDS = 10_000
_LONGEST = 63
_MONITOR_CONNECTIONS = 6
"""Of an exporter: one or two, and as many of its successor; more than one are open while it starts."""
# PostgreSQL refuses concurrent updates of the same catalogue row.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('runbook credentials'))"

# Without the privilege to see it, a session's type is NULL; such a session counts as a client's.
_SESSIONS = """
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND usename IS NOT NULL
  AND coalesce(backend_type, 'client backend') IN ('client backend', 'walsender')
  AND usename = coalesce(%(role)s, usename)
"""


def account(url: str, variable: str) -> Account:
    database = Database.at(url, variable)
    role, password = database.option("user"), database.option("password")
    if not role or not password:
        raise Refused("environment_invalid", f"{variable} needs a user and a password")
    if len(role.encode()) > _LONGEST:
        # The server cuts names: two roles would become one.
        why = f"the role {role} of {variable} is longer than {_LONGEST} bytes: use a shorter one as the application's"
        raise Refused("environment_invalid", why)
    return Account(role, password, url, variable)


class PostgresServer:
    def __init__(self, admins: Sequence[Account], owner: str) -> None:
        self._admins = admins
        self._owner = owner

    def accepts(self, account: Account) -> bool:
        connection = _login(account)
        if connection:
            connection.close()
        return connection is not None

    def prove(self, account: Account) -> None:
        """Writes where migrations do, so that a read-only role or another owner does not pass."""
        connection = _login(account)
        if connection is None:
            raise TaskError("new_refused", f"the server refuses {account.role} of {account.variable}; run prepare")
        with closing(connection), _translate_errors():
            row = connection.execute("SELECT current_user, current_schema()").fetchone()
            user, schema = row or (None, None)
            if user != self._owner:
                raise TaskError(
                    "role_wrong", f"a session of {account.role} is {user}'s, not {self._owner}'s; run prepare"
                )
            # Prisma's own parameter.
            schema = dict(parse_qsl(urlsplit(account.url).query)).get("schema", schema or "public")
            table = sql.Identifier(schema, f"runbook_{secrets.token_hex(8)}")
            with connection.transaction(force_rollback=True):
                connection.execute(sql.SQL("CREATE TABLE {} (n integer)").format(table))
                connection.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))

    def admit(self, account: Account) -> None:
        role, owner = sql.Identifier(account.role), sql.Identifier(self._owner)
        with self._alone() as admin:
            if account.role == self._owner:
                become = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(owner, _verifier(admin, account))
                admin.execute(become)
                return
            self._require_rights(admin)
            verb = "ALTER" if _exists(admin, account.role) else "CREATE"
            limit, verifier = sql.Literal(_connection_limit(admin, self._owner)), _verifier(admin, account)
            admin.execute(
                sql.SQL("{} ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(sql.SQL(verb), role, limit, verifier)
            )
            admin.execute(sql.SQL("GRANT {} TO {}").format(owner, role))
            _copy_settings(admin, self._owner, account.role)
            admin.execute(sql.SQL("ALTER ROLE {} SET role = {}").format(role, sql.Literal(self._owner)))

    def admit_monitor(self, account: Account) -> None:
        """Its own connections are few. From version 16 on it may use those that `reserved_connections` reserves."""
        role = sql.Identifier(account.role)
        with self._alone() as admin:
            verb = sql.SQL("ALTER" if _exists(admin, account.role) else "CREATE")
            limit, verifier = sql.Literal(_MONITOR_CONNECTIONS), _verifier(admin, account)
            admin.execute(
                sql.SQL("{} ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(verb, role, limit, verifier)
            )
            for grant in self._list_monitor_grants(admin, account):
                try:
                    with admin.transaction():
                        admin.execute(grant)
                except psycopg.errors.InsufficientPrivilege:
                    say(
                        f"warning: {admin.info.user} may not give {account.role} all rights of monitoring. "
                        f"Run as a superuser: {grant.as_string(admin)}"
                    )

    def _list_monitor_grants(self, admin: Connection[Any], account: Account) -> list[sql.Composed]:
        role, database = sql.Identifier(account.role), Database.at(account.url, account.variable).name
        rights = ["pg_monitor", *(["pg_use_reserved_connections"] if admin.info.server_version >= 160_000 else [])]
        grants = [sql.SQL("GRANT {} TO {}").format(sql.Identifier(right), role) for right in rights]
        asked = "SELECT has_database_privilege(%s, oid, 'CONNECT') FROM pg_database WHERE datname = %s"
        if admin.execute(asked, [account.role, database]).fetchone() == (False,):
            grants.append(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), role))
        return grants

    def _require_rights(self, admin: Connection[Any]) -> None:
        """Before anything is changed: also what the end of the rotation needs."""
        superuser, creates, grants = admin.execute(_RIGHTS, {"owner": self._owner}).fetchone() or (False, False, False)
        # Before version 16, who may create roles may grant any that is no superuser.
        grants = grants or admin.info.server_version < 160_000
        if superuser or (creates and grants):
            return
        name, owner = (sql.Identifier(each).as_string(admin) for each in (admin.info.user, self._owner))
        missing = [
            *([] if creates else [f"ALTER ROLE {name} CREATEROLE"]),
            *([] if grants else [f"GRANT {owner} TO {name} WITH ADMIN OPTION"]),
        ]
        raise Refused(
            "admin_without_rights",
            f"{admin.info.user} may not make roles that act as {self._owner}. Run as a superuser: {'; '.join(missing)}",
        )

    def refuse_logins(self, role: str) -> None:
        with self._alone() as admin:
            if _exists(admin, role):
                admin.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(role)))

    def set_admin_password(self, admin: Account) -> None:
        with self._alone() as connection:
            verifier = _verifier(connection, admin)
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(admin.role), verifier))

    def uses(self, role: str | None = None) -> list[Use]:
        query = (
            "SELECT usename, application_name, coalesce(host(client_addr), ''), count(*), min(backend_start)"
            f"{_SESSIONS} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        with _translate_errors():
            return [Use(*row) for row in self._admin.execute(query.encode(), {"role": role})]

    def sessions(self) -> list[dict[str, Any]]:
        query = (
            f"SELECT usename, application_name, count(*), min(backend_start) {_SESSIONS} GROUP BY 1, 2 ORDER BY 1, 2"
        )
        with _translate_errors():
            return [
                {"role": role, "application": application, "count": count, "oldest_at": oldest and oldest.isoformat()}
                for role, application, count, oldest in self._admin.execute(query.encode(), {"role": None})
            ]

    def end_sessions(self, role: str) -> int:
        with _translate_errors(), may_signal(self._admin, role):
            ended = self._admin.execute(
                f"SELECT pg_terminate_backend(pid, {_END_MILLISECONDS}) {_SESSIONS}".encode(), {"role": role}
            ).fetchall()
        if not all(gone for (gone,) in ended):
            raise TaskError("session_stays", f"a session of {role} does not end; check pg_stat_activity")
        return len(ended)

    def close(self) -> None:
        if "_admin" in self.__dict__:
            self._admin.close()

    @cached_property
    def _admin(self) -> Connection[Any]:
        for admin in self._admins:
            if connection := _login(admin):
                return connection
        tried = " and ".join(admin.variable for admin in self._admins)
        raise TaskError("admin_refused", f"the server refuses {self._admins[0].role} with the password of {tried}")

    @contextmanager
    def _alone(self) -> Iterator[Connection[Any]]:
        """The admin's connection in a transaction, while no other run is in one."""
        with _translate_errors(), self._admin.transaction():
            self._admin.execute(_LOCK)
            yield self._admin


def _login(account: Account) -> Connection[Any] | None:
    """None if the server refuses the role or its password."""
    try:
        return Database.at(account.url, account.variable).connect(_APPLICATION)
    except TaskError as error:
        if any(refusal in str(error) for refusal in _REFUSALS):
            return None
        raise


_RIGHTS = """
SELECT rolsuper, rolcreaterole, coalesce((
    SELECT pg_has_role(me.oid, owner.oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles AS owner
    WHERE owner.rolname = %(owner)s), false)
FROM pg_roles AS me WHERE me.rolname = current_user
"""


def _exists(admin: Connection[Any], role: str) -> bool:
    return admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount > 0


def _connection_limit(admin: Connection[Any], role: str) -> int:
    """Connections that the role may have at once; -1: any number. One that may have none takes no logins itself."""
    row = admin.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return row[0] if row and row[0] > 0 else -1


_SETTINGS = """
SELECT database.datname, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
FROM pg_db_role_setting AS of_role
LEFT JOIN pg_database AS database ON database.oid = of_role.setdatabase,
LATERAL unnest(of_role.setconfig) AS setting
WHERE of_role.setrole = (SELECT oid FROM pg_roles WHERE rolname = %s)
ORDER BY 1, 2
"""


def _copy_settings(admin: Connection[Any], owner: str, role: str) -> None:
    """Give a role what `ALTER ROLE owner SET …` gave the owner, in all databases and in single ones.

    A session of the role becomes the owner's by `SET role`, which applies none of the owner's settings.
    """
    found: dict[str, list[tuple[str | None, str, str]]] = {
        name: admin.execute(_SETTINGS, [name]).fetchall() for name in (owner, role)
    }
    wanted = [setting for setting in found[owner] if setting[1] != "role"]
    kept = {(database, name) for database, name, _ in wanted}
    for database, name, _ in found[role]:
        if (database, name) not in kept and name != "role":
            admin.execute(sql.SQL("{} RESET {}").format(_alter(role, database), sql.Identifier(*name.split("."))))
    for database, name, value in wanted:
        try:
            with admin.transaction():
                # The value in the form in which the server keeps it: of a list it is no literal.
                admin.execute("SELECT set_config(%s, %s, true)", [name, value])
                setting = sql.Identifier(*name.split("."))
                admin.execute(sql.SQL("{} SET {} FROM CURRENT").format(_alter(role, database), setting))
        except psycopg.errors.InsufficientPrivilege:
            say(f"warning: {role} does not get the setting {name} of {owner}: only a superuser may set it")
        except psycopg.Error as error:
            say(f"warning: {role} does not get the setting {name} of {owner}: {error.diag.message_primary}")


def _alter(role: str, database: str | None) -> sql.Composed:
    name = sql.Identifier(role)
    if database is None:
        return sql.SQL("ALTER ROLE {}").format(name)
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(name, sql.Identifier(database))


def _verifier(connection: Connection[Any], account: Account) -> sql.Literal:
    """The SCRAM verifier that the server stores. No statement contains the password, because statements are logged."""
    made = connection.pgconn.encrypt_password(account.password.encode(), account.role.encode(), b"scram-sha-256")
    return sql.Literal(made.decode())


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise `TaskError` with the server's message, without the statement."""
    try:
        yield
    except psycopg.Error as error:
        why = error.diag.message_primary or " ".join(str(error).split())
        if isinstance(error, psycopg.errors.InsufficientPrivilege) and error.diag.message_detail:
            # It says which right is missing.
            why += f". {error.diag.message_detail}"
        raise TaskError("database_failed", f"PostgreSQL: {why}") from None
