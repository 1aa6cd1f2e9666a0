"""A store in a folder: a mounted volume."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from tasks.errors import TaskError
from tasks.store.base import Entry, Exists, Missing, Sink, Store

_UNFINISHED = ".unfinished-"


class FolderStore(Store):
    """Objects are files, readable by their owner only. A file has a temporary name until all of it is on the disk."""

    def __init__(self, root: Path) -> None:
        self.url = f"file://{root}"
        self._root = root

    def prepare(self) -> None:
        with self.faults("be prepared"):
            # Only the last part: a whole missing path more likely means a volume that is not mounted.
            self._root.mkdir(mode=0o700, exist_ok=True)
            probe = self._root / f"{_UNFINISHED}{secrets.token_hex(4)}"
            probe.touch(mode=0o600)
            probe.unlink()

    @contextmanager
    def upload(self, key: str, expected: int = 0) -> Iterator[Sink]:  # noqa: ARG002
        with self._written(key) as (file, temporary):
            yield _Sink(self, key, file)
            with self.faults(f"take {key}"):
                _flush(file)
                temporary.replace(self._path(key))

    def put(self, key: str, data: bytes, *, new: bool = False, keep: bool = True) -> None:  # noqa: ARG002
        with self._written(key) as (file, temporary), self.faults(f"take {key}"):
            _Sink(self, key, file).write(data)
            _flush(file)
            if not new:
                temporary.replace(self._path(key))
                return
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                raise Exists(self.url, key) from None

    def get(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        try:
            with self.faults(f"give {key}"):
                file = self._path(key).open("rb")
        except FileNotFoundError:
            raise Missing(self.url, key) from None
        with file:
            yield file

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        with self.faults("be listed"):
            if not self._root.is_dir():
                raise TaskError("store_unreachable", f"{self.url} is no folder: is the volume mounted?")
            # Not under a folder that cannot hold a match: evidence is small, a directory dump is not.
            start = self._root / prefix.rpartition("/")[0]
            found = [file for file in start.rglob("*") if file.is_file() and not file.name.startswith(_UNFINISHED)]
        for file in sorted(found):
            key = file.relative_to(self._root).as_posix()
            if key.startswith(prefix):
                try:
                    about = file.stat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                yield Entry(key, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))

    def delete(self, keys: Iterable[str]) -> None:
        with self.faults("delete"):
            for key in keys:
                path = self._path(key)
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, self._root)

    def clear_unfinished(self, prefix: str = "") -> int:
        with self.faults("be tidied"):
            leftovers = [
                file
                for file in self._root.rglob(f"{_UNFINISHED}*")
                if file.relative_to(self._root).as_posix().startswith(prefix)
            ]
            for file in leftovers:
                file.unlink(missing_ok=True)
                _remove_empty(file.parent, self._root)
        return len(leftovers)

    def now(self) -> datetime:
        # The file system's: on a network volume, its server's.
        with self.faults("be asked for the time"):
            probe = self._root / f"{_UNFINISHED}{secrets.token_hex(8)}"
            probe.touch(mode=0o600)
            try:
                return datetime.fromtimestamp(probe.stat().st_mtime, UTC)
            finally:
                probe.unlink()

    def _path(self, key: str) -> Path:
        return self._root / key

    @contextmanager
    def _written(self, key: str) -> Iterator[tuple[FileIO, Path]]:
        folder = self._path(key).parent
        temporary = folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with self.faults(f"take {key}"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)
        try:
            with file:
                yield file, temporary
            with self.faults(f"take {key}"):
                _sync_folder(folder)
        finally:
            temporary.unlink(missing_ok=True)
            _remove_empty(folder, self._root)

    @contextmanager
    def faults(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not self._root.is_dir():
                raise TaskError("store_unreachable", f"{self.url} is no folder: is the volume mounted?") from error
            raise
        except OSError as error:
            code = {
                errno.ENOSPC: "disk_full",
                errno.EDQUOT: "disk_full",
                errno.EACCES: "store_denied",
                errno.EPERM: "store_denied",
                errno.EROFS: "store_denied",
            }.get(error.errno or 0, "store_failed")
            raise TaskError(code, f"{self.url} could not {doing}: {error.strerror}") from error


class _Sink:
    """Distinguishes errors of the disk from errors of the caller."""

    def __init__(self, store: FolderStore, key: str, file: FileIO) -> None:
        self._store, self._key, self._file = store, key, file

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        rest = memoryview(data)
        with self._store.faults(f"take {self._key}"):
            while rest:
                rest = rest[self._file.write(rest) :]
        return len(data)


def _flush(file: FileIO) -> None:
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable: after a power cut the file could otherwise be missing."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:  # another file is in it, or it is already removed
            return
        folder = folder.parent
