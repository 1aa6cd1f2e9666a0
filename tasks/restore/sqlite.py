"""SQLite databases: files beside the live one, named after it."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.backup.manifest import ENCRYPTED, Manifest
from tasks.backup.sqlite import SENTINEL_TABLE, content_digest, opened, row_counts, schema_level
from tasks.errors import Refused, TaskError
from tasks.restore.integrity import Integrity

_CHUNK = 1 << 20
_PARTS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database's file."""
_MARK = f"{SENTINEL_TABLE}_restored"
_COMPANIONS = (*_PARTS, ".note.json", ".note.new", "-lock")


class SqliteTarget:
    def __init__(self, path: Path) -> None:
        self.live = path.name
        self._folder = path.parent

    @property
    def identity(self) -> str:
        return str(self._path(self.live).resolve())

    def server(self) -> str:
        return self.identity

    def version(self) -> str:
        return sqlite3.sqlite_version

    def accept(self, manifest: Manifest) -> None:
        if manifest.engine != "sqlite":
            raise Refused("engine_differs", f"backup {manifest.id} is of {manifest.engine}, {self.live} is SQLite")

    def databases(self) -> frozenset[str]:
        if not self._folder.is_dir():
            raise TaskError("database_unreachable", f"{self._folder} is no folder: is the volume mounted?")
        live = self._path(self.live)
        # A second name of the live file is a swap that was cut short, and not yet a database of its own.
        return frozenset(
            file.name
            for file in self._folder.iterdir()
            if file == live
            or not (file.name.endswith(_COMPANIONS) or (live.exists() and file.exists() and file.samefile(live)))
        )

    def copy_name(self, role: str, part: str) -> str:
        return f"{self.live}_{role}_{part}"

    def retired_name(self, role: str, part: str) -> str:
        # The same each time: a swap that was cut short has given it already.
        return self.copy_name(role, part)

    def check_name(self, name: str) -> None:
        if Path(name).name != name or name.startswith("."):
            raise Refused("name_invalid", f"{name!r} has to be a file name in the folder of {self.live}")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._translate_errors(), self._path(f"{self.live}.restore-lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TaskError(
                    "restore_running", f"another restore beside {self.live} is running: wait for its end"
                ) from None
            yield

    def create(self, name: str) -> None:
        with self._translate_errors():
            path, live = self._path(name), self._path(self.live)
            path.touch(mode=0o600, exist_ok=False)
            if live.exists():
                shutil.copymode(live, path)
                about = live.stat()
                if (about.st_uid, about.st_gid) != (os.getuid(), os.getgid()):
                    os.chown(path, about.st_uid, about.st_gid)

    def load(self, name: str, folder: Path, manifest: Manifest, jobs: int) -> tuple[str, ...]:  # noqa: ARG002 - one file
        packed = folder / manifest.dump[0].name.removesuffix(ENCRYPTED)
        with self._translate_errors(), gzip.open(packed) as source, self._path(name).open("r+b") as target:
            shutil.copyfileobj(source, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        return ()

    def find_as_release(self, manifest: Manifest, level_query: str | None) -> dict[str, Any]:  # noqa: ARG002
        with opened(self._path(self.live)) as connection:
            return {"schema_level": schema_level(connection, level_query)}

    def analyze(self, name: str) -> None:
        """Nothing to do: the backup is the whole file, with its statistics."""

    def rows(self, name: str) -> dict[str, int]:
        with opened(self._path(name)) as connection:
            return row_counts(connection)

    def roots(self, name: str) -> dict[str, str]:  # noqa: ARG002 - SQLite has no partitions
        return {}

    def has_sentinel(self, name: str, token: str) -> bool:
        with opened(self._path(name)) as connection:
            try:
                query = f"SELECT 1 FROM {SENTINEL_TABLE} WHERE token = ?"  # noqa: S608 - the name is ours
                return connection.execute(query, (token,)).fetchone() is not None
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return False
                raise

    def integrity(self, name: str, rows_read: Callable[[], object]) -> Integrity:  # noqa: ARG002 - no counter
        with opened(self._path(name)) as connection:
            lines = [line for (line,) in connection.execute("PRAGMA integrity_check")]
            orphans = len(connection.execute("PRAGMA foreign_key_check").fetchall())
        whole = lines == ["ok"]
        findings = {"integrity_check": "ok" if whole else lines, "rows_without_their_foreign_key": orphans}
        return Integrity(whole, findings)

    def publish(self, half_made: str, name: str, note: Mapping[str, Any] | None) -> None:
        with self._translate_errors():
            if note is None:
                self._note(name).unlink(missing_ok=True)
            else:
                self.set_note(name, note)
            self._path(half_made).rename(self._path(name))
            self._note(half_made).unlink(missing_ok=True)
            self._sync()

    def drop(self, name: str) -> None:
        with self._translate_errors():
            for tail in ("", *_PARTS):
                self._path(name + tail).unlink(missing_ok=True)
            self._note(name).unlink(missing_ok=True)

    def note(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads(self._note(name).read_text())
        except FileNotFoundError:
            return None

    def set_note(self, name: str, note: Mapping[str, Any]) -> None:
        with self._translate_errors():
            file = self._note(name)
            written = file.with_suffix(".new")
            written.write_text(json.dumps(note))
            written.replace(file)

    def mark(self) -> dict[str, Any] | None:
        with opened(self._path(self.live)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (_MARK,)).fetchone():
                return None
            row = connection.execute(f"SELECT of FROM {_MARK}").fetchone()  # noqa: S608 - the name is ours
            return row and json.loads(row[0])

    def set_mark(self, name: str, mark: Mapping[str, Any] | None) -> None:
        with opened(self._path(name)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"DROP TABLE IF EXISTS {_MARK}")
            if mark is not None:
                connection.execute(f"CREATE TABLE {_MARK} (of TEXT NOT NULL)")
                connection.execute(f"INSERT INTO {_MARK} VALUES (?)", (json.dumps(mark),))  # noqa: S608
            connection.execute("COMMIT")

    def moment(self, name: str) -> int:
        with opened(self._path(name)) as connection:
            return content_digest(connection)

    @contextmanager
    def closed(self, name: str) -> Iterator[ClosedSqlite]:
        """A file cannot refuse programs; what they wrote until it is looked at is seen."""
        yield ClosedSqlite(self, name)

    def reopen(self, name: str) -> None:
        """Nothing to do: it was not closed."""

    def url(self, name: str) -> str:
        return self.shown(name)

    def swap(self, incoming: str, outgoing: str) -> None:
        """A second name for the live file, then the other file under the live name: both are atomic, and
        between them nothing has changed yet."""
        live, out = self._path(self.live), self._path(outgoing)
        with self._translate_errors(), _exclusive_file(live) as journal:
            self.set_note(outgoing, self.note(incoming) or {})
            out.unlink(missing_ok=True)
            os.link(live, out)
            self._path(incoming).replace(live)
            self._note(incoming).unlink(missing_ok=True)
            self._sync()
        if journal == "wal":
            with opened(out) as connection:
                connection.execute("PRAGMA journal_mode = WAL")

    def require_swappable(self) -> None:
        """A file can always be replaced."""

    def keep_jobs(self, replaced: str) -> None:
        """SQLite runs no jobs."""

    def shown(self, name: str) -> str:
        return f"sqlite:///{self._path(name).absolute().as_posix().lstrip('/')}"

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _note(self, name: str) -> Path:
        return self._folder / f"{name}.note.json"

    def _sync(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "database_refused"
            raise TaskError(code, f"{self._folder}: {error.strerror or error}") from error


@dataclass(frozen=True)
class ClosedSqlite:
    target: SqliteTarget
    name: str

    def rows(self) -> dict[str, int]:
        return self.target.rows(self.name)

    def roots(self) -> dict[str, str]:
        return {}

    def moment(self) -> int:
        return self.target.moment(self.name)

    def written_since(self, moment: int) -> dict[str, int]:
        # A file does not say which rows are newer, only that its content is another one.
        return self.rows() if self.moment() != moment else {}


@contextmanager
def _exclusive_file(path: Path) -> Iterator[str]:
    """Yield the journal mode while the file is the whole database and no process has it in WAL mode or a transaction.

    Programs that keep the file open would go on writing into the old one: they have to be stopped first.
    """
    with opened(path) as connection:
        connection.execute("PRAGMA busy_timeout = 5000")
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise TaskError(
                "database_in_use", f"{path} is open in another program ({error}): stop it; nothing was changed"
            ) from None
        try:
            yield journal
        finally:
            connection.execute("ROLLBACK")
