"""Select the restore target for a URL."""

from __future__ import annotations

from tasks.backup.postgres import Database, url_schema
from tasks.backup.postgres_source import reader_of
from tasks.backup.sqlite import is_sqlite, path_of
from tasks.environment import Environment
from tasks.errors import Refused
from tasks.restore.postgres import PostgresTarget
from tasks.restore.restore_target import RestoreTarget
from tasks.restore.sqlite import SqliteTarget

_EXAMPLE = "postgresql://user:password@host:5432/database, or sqlite:///path"
_ADMIN = "DATABASE_ADMIN_URL"
"""Who made the application's logins, where rotation does: ends their sessions."""


def live_target(environment: Environment) -> RestoreTarget:
    """Where the live database is."""
    return _place(environment.required("DATABASE_URL", _EXAMPLE), "DATABASE_URL", environment)


def test_target(environment: Environment) -> RestoreTarget:
    """Where restore tests go; refuses the live database."""
    url = environment.required("RESTORE_DATABASE_URL", _EXAMPLE)
    place = _place(url, "RESTORE_DATABASE_URL", environment, throw_away=True)
    live = environment.text("DATABASE_URL")
    if live and _place(live, "DATABASE_URL", environment).identity == place.identity:
        raise Refused(
            "environment_invalid",
            "RESTORE_DATABASE_URL is the live database: a restore test needs one that may be deleted",
        )
    return place


def _place(url: str, variable: str, environment: Environment, *, throw_away: bool = False) -> RestoreTarget:
    if is_sqlite(url):
        return SqliteTarget(path_of(url))
    database = Database.at(url, variable)
    if throw_away:
        return PostgresTarget(database, database, schema=url_schema(url), throw_away=True)
    admin = environment.text(_ADMIN)
    administrator = Database.at(admin, _ADMIN) if admin else None
    return PostgresTarget(database, reader_of(url, environment), schema=url_schema(url), administrator=administrator)
