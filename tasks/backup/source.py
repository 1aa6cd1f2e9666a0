"""What a backup is made of: a database, locked against a second backup, at one moment in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from tasks.backup.files import Files
from tasks.backup.manifest import Application, Origin, Sentinel
from tasks.backup.patience import Patience
from tasks.environment import Environment

SENTINELS_KEPT = 10
"""Rows of the sentinel's table: enough to look at, not enough to grow."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The database at one moment. Valid inside the block that made it."""

    taken_at: datetime
    server_version: str
    database_bytes: int
    schema_level: int | None
    sentinel: Sentinel
    format: Literal["custom", "directory", "sqlite"]
    tools: Mapping[str, str]
    dump: Callable[[Files, str], tuple[str, Mapping[str, int]]]
    """Write everything into the store under a backup's id; the dump's name (for its `.sha256`), and the rows of
    each table at that moment."""
    still_alone: Callable[[], None]
    """Raises if the lock may have been lost meanwhile."""
    application: Application | None = None
    via_root: bool = False


class Source(Protocol):
    """A live database."""

    @property
    def engine(self) -> Literal["postgresql", "sqlite"]: ...

    @property
    def name(self) -> str: ...

    def level(self) -> int | None:
        """Its schema level now; None without SCHEMA_LEVEL_QUERY."""
        ...

    def is_empty(self) -> bool:
        """Whether there is nothing in it to lose yet: no table but a backup's own."""
        ...

    def origin(self, stack: str | None) -> tuple[Origin, str]:
        """What a manifest says of where it is from; and the running server's database, another one after a restart."""
        ...

    def require_readable(self) -> None:
        """Raise if a backup would miss what its login may not read."""
        ...

    def alone(self, patience: Patience) -> AbstractContextManager[Callable[[], AbstractContextManager[Snapshot]]]:
        """Hold the lock (`backup_running` if another process keeps it); the yielded function takes the snapshot."""
        ...


def open_source(environment: Environment) -> Source:
    """The database of DATABASE_URL."""
    from tasks.backup.postgres_source import PostgresSource  # they know this module's types
    from tasks.backup.sqlite import is_sqlite
    from tasks.backup.sqlite_source import SqliteSource

    url = environment.required("DATABASE_URL", "postgresql://user:password@host:5432/database, or sqlite:///path")
    if is_sqlite(url):
        return SqliteSource.from_environment(url, environment)
    return PostgresSource.from_environment(url, environment)
