"""Where databases live: a PostgreSQL server, or a folder of SQLite files. The interface that a restore uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from tasks.backup.manifest import Manifest
from tasks.restore.integrity import Integrity


class ClosedDatabase(Protocol):
    """A database that no other client writes to."""

    def rows(self) -> dict[str, int]:
        """Rows of each table; those of partitions count for their root."""
        ...

    def roots(self) -> dict[str, str]:
        """Partition → root."""
        ...

    def moment(self) -> int:
        """Now: what is written from here on is newer."""
        ...

    def written_since(self, moment: int) -> dict[str, int]:
        """Rows of each table that were inserted or changed since, and of what defines tables."""
        ...


class RestoreTarget(Protocol):
    """Databases by name. `live` is the one that the application uses."""

    live: str

    @property
    def identity(self) -> str:
        """The live database, the same for every role that connects."""
        ...

    def server(self) -> str | None:
        """What a manifest's origin says of this server; None where the role may not know it."""
        ...

    def version(self) -> str:
        """The server's version, for the record."""
        ...

    def accept(self, manifest: Manifest) -> None:
        """Refuse a backup that cannot be restored here (other engine, newer server)."""
        ...

    def databases(self) -> frozenset[str]: ...

    def copy_name(self, role: str, part: str) -> str:
        """The name of a copy beside the live database; refuses one that the engine would cut."""
        ...

    def retired_name(self, role: str, part: str) -> str:
        """The name of one that goes out of service: where clients connect by names, one that none of them knows."""
        ...

    def check_name(self, name: str) -> None:
        """Refuse what cannot be the name of a database here."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """One restore at a time; a second one is refused. The engine releases the lock when the process ends."""
        ...

    def create(self, name: str) -> None:
        """An empty database with owner, privileges, locale and roles' settings of the live one, where there is one."""
        ...

    def load(self, name: str, folder: Path, manifest: Manifest, jobs: int) -> tuple[str, ...]:
        """Put the fetched backup in `folder` into the empty database; what the role that restores could not."""
        ...

    def find_as_release(self, manifest: Manifest, level_query: str | None) -> dict[str, Any]:
        """What a release finds in the live one, by its URL alone: `schema_level`, role and search_path."""
        ...

    def analyze(self, name: str) -> None:
        """Make the planner's statistics, which are in no dump."""
        ...

    def rows(self, name: str) -> dict[str, int]:
        """Rows of each table; those of partitions count for their root."""
        ...

    def roots(self, name: str) -> dict[str, str]:
        """Partition → root."""
        ...

    def has_sentinel(self, name: str, token: str) -> bool: ...

    def integrity(self, name: str, rows_read: Callable[[], object]) -> Integrity:
        """The engine's own checks; `rows_read` returns when the comparison has read every row."""
        ...

    def publish(self, half_made: str, name: str, note: Mapping[str, Any] | None) -> None:
        """Give a finished database its name and its note, in one act."""
        ...

    def drop(self, name: str) -> None:
        """Drop it and end its sessions; no error if it does not exist."""
        ...

    def note(self, name: str) -> dict[str, Any] | None:
        """What `set_note` wrote on this copy."""
        ...

    def set_note(self, name: str, note: Mapping[str, Any]) -> None: ...

    def mark(self) -> dict[str, Any] | None:
        """What the live database says of the restore that it comes from."""
        ...

    def set_mark(self, name: str, mark: Mapping[str, Any] | None) -> None:
        """Write into a database which restore it comes from; it stays in it under every name."""
        ...

    def moment(self, name: str) -> int:
        """Now, as the server or the database's content counts: what `ClosedDatabase.written_since` compares with."""
        ...

    def closed(self, name: str) -> AbstractContextManager[ClosedDatabase]:
        """End all sessions in a database and refuse new ones, superusers' too; it stays closed after the block.

        `database_in_use`, and it is open again, when a session cannot be ended.
        """
        ...

    def reopen(self, name: str) -> None:
        """Let clients connect to it again."""
        ...

    def url(self, name: str) -> str:
        """The database's URL, with its password."""
        ...

    def swap(self, incoming: str, outgoing: str) -> None:
        """The live database becomes `outgoing`, which gets the note, and `incoming` becomes the live one,
        also when it is closed.

        All of it or nothing, at whatever moment the process or the server dies.
        """
        ...

    def require_swappable(self) -> None:
        """Refuse where this role cannot put another database in the live one's place."""
        ...

    def keep_jobs(self, replaced: str) -> None:
        """Give the live database the jobs that the server runs in it, from the one that it replaced; does nothing
        the second time."""
        ...

    def shown(self, name: str) -> str:
        """The database's URL without a password."""
        ...
