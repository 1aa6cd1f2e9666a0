"""Backing up SQLite: an online copy, which is then counted, checked and compressed."""

from __future__ import annotations

import fcntl
import io
import secrets
import socket
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from tasks.backup.files import Files
from tasks.backup.manifest import Origin, Sentinel
from tasks.backup.patience import Patience
from tasks.backup.scratch import full, scratch
from tasks.backup.source import SENTINELS_KEPT, Snapshot
from tasks.backup.sqlite import SENTINEL_TABLE, opened, path_of, row_counts, schema_level
from tasks.environment import Environment
from tasks.errors import TaskError

_PIECE = 1 << 20
_AGAIN_SECONDS = 1.0
_GZIP = 31  # zlib's window size 15, with gzip's header and sum around it


@dataclass(frozen=True)
class SqliteSource:
    path: Path
    level_query: str | None
    environment: Environment
    engine: Literal["sqlite"] = "sqlite"

    @classmethod
    def from_environment(cls, url: str, environment: Environment) -> SqliteSource:
        return cls(path_of(url), environment.text("SCHEMA_LEVEL_QUERY"), environment)

    @property
    def name(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        """Whether the application has made it yet; its folder has to be there."""
        if not self.path.parent.is_dir():
            raise TaskError("database_unreachable", f"{self.path.parent} is no folder: is the volume mounted?")
        return self.path.exists()

    def level(self) -> int | None:
        with opened(self.path) as connection:
            return schema_level(connection, self.level_query)

    def is_empty(self) -> bool:
        with opened(self.path) as connection:
            return not row_counts(connection).keys() - {f"main.{SENTINEL_TABLE}"}

    def origin(self, stack: str | None) -> tuple[Origin, str]:
        with opened(self.path):
            about = self.path.stat()
        boot = Path("/proc/sys/kernel/random/boot_id")
        running = boot.read_text().strip() if boot.exists() else socket.gethostname()
        return Origin(stack, str(self.path.resolve())), f"{running}/{about.st_dev}/{about.st_ino}"

    def require_readable(self) -> None:
        """A file is read whole or not at all."""

    @contextmanager
    def alone(self, patience: Patience) -> Iterator[Callable[[], AbstractContextManager[Snapshot]]]:
        with opened(self.path) as connection, self._locked(patience):
            yield lambda: self._snapshot(connection)

    @contextmanager
    def _locked(self, patience: Patience) -> Iterator[None]:
        # Not the database file itself: closing any handle of that would drop SQLite's own locks on it.
        name = self.path.with_name(f"{self.path.name}.backup-lock")
        try:
            lock = name.open("a")
        except OSError as error:
            raise TaskError("database_unreachable", f"{name} cannot be made: {error.strerror}") from error
        running = TaskError("backup_running", f"another backup of {self.path} is running; try again later")
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(patience.spend(running, most=_AGAIN_SECONDS))
            yield

    @contextmanager
    def _snapshot(self, connection: sqlite3.Connection) -> Iterator[Snapshot]:
        sentinel = _write_sentinel(connection)
        with scratch(self.environment) as folder:
            copy = folder / "copy.db"
            taken_at = datetime.now(UTC)
            try:
                with closing(sqlite3.connect(copy)) as target:
                    connection.backup(target)
                with opened(copy) as copied:
                    _see_whole(copied, self.path)
                    level, counts = schema_level(copied, self.level_query), row_counts(copied)
            except (sqlite3.OperationalError, TaskError) as error:
                if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(error, "code", "") == "disk_full":
                    raise full(self.environment) from error
                raise

            def dump(files: Files, backup: str) -> tuple[str, Mapping[str, int]]:
                files.take(f"{backup}.db.gz", _compressed(copy), copy.stat().st_size)
                return files.written[0].name, counts

            yield Snapshot(
                taken_at=taken_at,
                server_version=sqlite3.sqlite_version,
                database_bytes=copy.stat().st_size,
                schema_level=level,
                sentinel=sentinel,
                format="sqlite",
                tools={"sqlite": sqlite3.sqlite_version},
                dump=dump,
                still_alone=lambda: None,  # the kernel keeps the lock as long as this process lives
            )


def _write_sentinel(connection: sqlite3.Connection) -> Sentinel:
    token, now = secrets.token_hex(16), datetime.now(UTC)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {SENTINEL_TABLE} (token TEXT PRIMARY KEY, written_at TEXT NOT NULL)"
    )
    connection.execute(f"INSERT INTO {SENTINEL_TABLE} VALUES (?, ?)", (token, now.isoformat()))  # noqa: S608
    connection.execute(
        f"DELETE FROM {SENTINEL_TABLE} WHERE token NOT IN "  # noqa: S608 - the name is ours
        f"(SELECT token FROM {SENTINEL_TABLE} ORDER BY written_at DESC LIMIT ?)",
        (SENTINELS_KEPT,),
    )
    return Sentinel(token, now)


def _see_whole(connection: sqlite3.Connection, path: Path) -> None:
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise TaskError("database_damaged", f"the SQLite database {path} is damaged: {result}")


@contextmanager
def _compressed(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        yield cast(BinaryIO, io.BufferedReader(_Gzip(file), _PIECE))


class _Gzip(io.RawIOBase):
    """Reads as the gzip of a file: nothing has to be on the disk twice."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._zip: Any = zlib.compressobj(wbits=_GZIP)
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready and self._zip is not None:
            piece = self._file.read(_PIECE)
            if piece:
                self._ready = self._zip.compress(piece)
            else:
                self._ready, self._zip = self._zip.flush(), None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count
