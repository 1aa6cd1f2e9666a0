"""Making a database like another one of the same server: locale, owner, privileges, settings of roles in it.

pg_dump has these of the database itself only for `pg_restore --create`, which makes it under its old name. The settings
that the dump has are given later (`postgres_load`); a login that came since, by a rotation, has them only here.
"""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import Connection, Error, sql

from tasks.errors import TaskError
from tasks.progress import say

_ABOUT = """
SELECT to_jsonb(d) AS facts, pg_encoding_to_char(d.encoding) AS encoding, pg_get_userbyid(d.datdba) AS owner,
       t.spcname AS tablespace
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = %s
"""
_PRIVILEGES = """
SELECT a.privilege_type, a.is_grantable, r.rolname
FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE d.datname = %s AND d.datacl IS NOT NULL AND (a.grantee = 0 OR r.rolname IS NOT NULL)
"""
_SETTINGS = """
SELECT r.rolname, split_part(setting, '=', 1) AS name, substr(setting, strpos(setting, '=') + 1) AS value
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole,
     unnest(s.setconfig) AS setting
WHERE d.datname = %s
"""


def create_like(server: Connection[Any], model: str, name: str) -> None:
    """Create an empty database `name` with the properties of `model`."""
    row = server.execute(_ABOUT, (model,)).fetchone()
    if row is None:
        raise TaskError("database_unreachable", f"there is no database {model!r} on the server")
    facts, encoding, owner, tablespace = row
    try:
        server.execute(_creation(name, facts, encoding, owner, tablespace))
        _grant(server, model, name, owner)
    except Error as error:
        raise TaskError(
            "database_refused",
            f"a database like {model} could not be made: {error}. The role of DATABASE_URL has to be the owner of "
            f"{model} (a member of {owner}) with CREATEDB, or a superuser",
        ) from error
    _set(server, model, name)


def _creation(name: str, facts: dict[str, Any], encoding: str, owner: str, tablespace: str) -> sql.Composed:
    options: dict[LiteralString, str | None] = {
        "ENCODING": encoding,
        "LC_COLLATE": facts["datcollate"],
        "LC_CTYPE": facts["datctype"],
    }
    # What the catalogue calls these changed with versions 15, 16 and 17.
    provider, locale = facts.get("datlocprovider", "c"), facts.get("datlocale") or facts.get("daticulocale")
    if provider == "i":
        options |= {"LOCALE_PROVIDER": "icu", "ICU_LOCALE": locale, "ICU_RULES": facts.get("daticurules")}
    elif provider == "b":
        options |= {"LOCALE_PROVIDER": "builtin", "BUILTIN_LOCALE": locale}
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {} {} CONNECTION LIMIT {} {}").format(
        sql.Identifier(name),
        sql.Identifier(owner),
        # The usual one needs no right as long as it is not asked for by name.
        sql.SQL("TABLESPACE {}").format(sql.Identifier(tablespace)) if tablespace != "pg_default" else sql.SQL(""),
        sql.Literal(facts["datconnlimit"]),
        sql.SQL(" ").join(
            sql.SQL(option) + sql.SQL(" ") + sql.Literal(value) for option, value in options.items() if value
        ),
    )


def _grant(server: Connection[Any], model: str, name: str, owner: str) -> None:
    privileges = server.execute(_PRIVILEGES, (model,)).fetchall()
    if not privileges:
        return
    database = sql.Identifier(name)
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(database, sql.Identifier(owner)))
    for privilege, grantable, role in privileges:
        server.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {} {}").format(
                sql.SQL(privilege),
                database,
                sql.SQL("PUBLIC") if role is None else sql.Identifier(role),
                sql.SQL("WITH GRANT OPTION" if grantable else ""),
            )
        )


def _set(server: Connection[Any], model: str, name: str) -> None:
    """ALTER ROLE … IN DATABASE … SET.

    FROM CURRENT, because a list such as search_path is stored in a form that SET does not take as it is.
    """
    for role, setting, value in server.execute(_SETTINGS, (model,)).fetchall():
        whose = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), sql.Identifier(name))
        try:
            with server.transaction():
                server.execute("SELECT set_config(%s, %s, true)", (setting, value))
                server.execute(
                    sql.SQL("{} SET {} FROM CURRENT").format(
                        whose, sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
                    )
                )
        except Error as error:
            say(f"warning: the setting {setting} of role {role} in {model} could not be given to {name}: {error}")
