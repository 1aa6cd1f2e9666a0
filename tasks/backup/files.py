"""A backup's objects on their way into the store: hashed, and encrypted where there are recipients."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from typing import BinaryIO

from tasks.backup import encryption
from tasks.backup.manifest import ENCRYPTED, File, folder
from tasks.progress import Meter, say, size
from tasks.store import Sink, Store

_PIECE = 1 << 20


class Files:
    """Collects what was written, for the manifest. One object at a time."""

    def __init__(self, store: Store, backup: str, recipients: tuple[str, ...]) -> None:
        self._store = store
        self._backup = backup
        self._recipients = recipients
        self.written: list[File] = []

    def take(self, name: str, source: AbstractContextManager[BinaryIO], expected: int = 0) -> None:
        """Stream `source` into an object, which exists only if `source` also ends well."""
        name += ENCRYPTED if self._recipients else ""
        with self._store.upload(folder(self._backup) + name, expected) as sink, source as stream:
            hashed = _Hashed(sink, name)
            if self._recipients:
                encryption.encrypt(stream, hashed, self._recipients)
            else:
                while piece := _next(stream):
                    hashed.write(piece)
        self.written.append(File(name, hashed.size, hashed.sha256))
        say(f"{name}: {size(hashed.size)}")

    def finish(self, dump: str) -> None:
        """Write the companion of the dump that `sha256sum -c` takes as it is."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.written)
        self._store.put(f"{folder(self._backup)}{dump}.sha256", lines.encode())


def _next(stream: BinaryIO) -> bytes:
    # What is there already, rather than wait for a whole piece: the upload goes on meanwhile.
    return stream.read1(_PIECE) if hasattr(stream, "read1") else stream.read(_PIECE)  # type: ignore[attr-defined]


class _Hashed:
    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self._meter = Meter(name)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        self._hash.update(data)
        self._meter.add(len(data))
        return self._sink.write(data)

    @property
    def size(self) -> int:
        return self._meter.bytes

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
