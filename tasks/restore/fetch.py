"""A backup out of the store, checked against its manifest while it is read, and decrypted if it is encrypted."""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tasks.backup.encryption import decrypt
from tasks.backup.manifest import ENCRYPTED, File, Manifest
from tasks.errors import TaskError
from tasks.progress import Meter, size
from tasks.store import Missing, Store

_CHUNK = 1 << 20

Keys = Sequence[Any]
"""age identities, as `encryption.identities` reads them."""


def verify(store: Store, manifest: Manifest, jobs: int = 1) -> None:
    """Read all of a backup and compare it with its manifest and its `.sha256`; needs neither disk nor key."""
    _compare_companion(store, manifest)
    meter = Meter(f"verifying {manifest.id}")

    def one(file: File) -> None:
        with _checked(store, manifest, file, meter) as stream:
            stream.drain()

    _each(manifest, one, jobs)


def fetch(store: Store, manifest: Manifest, into: Path, keys: Keys, jobs: int = 1) -> None:
    """Write the backup's files into the folder `into`, decrypted, under their plain names."""
    _compare_companion(store, manifest)
    wanted, free = sum(file.size for file in manifest.files), shutil.disk_usage(into).free
    if free < wanted:
        raise _disk_full(manifest, into, f"{size(wanted)} are needed, {size(free)} are free")
    meter = Meter(f"fetching {manifest.id}")

    def one(file: File) -> None:
        target = into / file.name.removesuffix(ENCRYPTED)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _checked(store, manifest, file, meter) as stream:
            try:
                with target.open("wb") as out:
                    if file.name.endswith(ENCRYPTED):
                        _unseal(stream, out, keys, f"backup {manifest.id}: {file.name}")
                    else:
                        shutil.copyfileobj(stream, out, _CHUNK)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise _disk_full(manifest, into, f"{file.name} did not fit") from error
                raise

    _each(manifest, one, jobs)


def _each(manifest: Manifest, one: Callable[[File], None], jobs: int) -> None:
    with ThreadPoolExecutor(min(jobs, len(manifest.files))) as pool:
        try:
            list(pool.map(one, manifest.files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _unseal(stream: _Checked, out: BinaryIO, keys: Keys, name: str) -> None:
    try:
        decrypt(stream, out, keys, name)
    except TaskError as error:
        # A changed byte makes decryption fail, too: then the sums say more precisely what is wrong.
        if error.code == "checksum_mismatch":
            stream.drain()
            stream.compare()
        raise


class _Ahead:
    """Reads the next piece of a stream while the caller processes this one."""

    def __init__(self, stream: BinaryIO, reader: Executor) -> None:
        self._read = lambda: reader.submit(stream.read, _CHUNK)
        self._piece, self._next = io.BytesIO(), self._read()

    def read(self, count: int) -> bytes:
        data = self._piece.read(count)
        if not data:
            self._piece = io.BytesIO(self._next.result())
            self._next = self._read()
            data = self._piece.read(count)
        return data


class _Checked:
    """A stream that sums up what passes and at its end compares it with the manifest."""

    def __init__(self, stream: _Ahead, backup: str, file: File, meter: Meter) -> None:
        self._stream, self._backup, self._file, self._meter = stream, backup, file, meter
        self._sum = hashlib.sha256()
        self._size = 0

    def read(self, count: int = -1, /) -> bytes:
        data = self._stream.read(count)
        self._sum.update(data)
        self._size += len(data)
        self._meter.add(len(data))
        return data

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    def compare(self) -> None:
        name = f"backup {self._backup}: {self._file.name}"
        if self._size < self._file.size:
            raise TaskError(
                "truncated",
                f"{name} is truncated: {self._size} bytes of {self._file.size}. Use another backup; check the store",
            )
        if (found := self._sum.hexdigest()) != self._file.sha256:
            raise TaskError(
                "checksum_mismatch",
                f"{name} was changed: its sha256 is {found}, the manifest says {self._file.sha256}. "
                "Use another backup; check the store",
            )


@contextmanager
def _checked(store: Store, manifest: Manifest, file: File, meter: Meter) -> Iterator[_Checked]:
    """Open a file of a backup; leaving the block well means that all of it was read and is right."""
    try:
        with store.open(manifest.key(file)) as raw, ThreadPoolExecutor(1) as reader:
            stream = _Checked(_Ahead(raw, reader), manifest.id, file, meter)
            yield stream
            stream.drain()
            stream.compare()
    except Missing as error:
        raise TaskError(
            "file_missing", f"backup {manifest.id}: {file.name} is in its manifest but not in {store.url}"
        ) from error


def _compare_companion(store: Store, manifest: Manifest) -> None:
    """The `.sha256` that people check with `sha256sum -c` has to say the same as the manifest."""
    name = f"backup {manifest.id}: its .sha256"
    keys = [entry.key for entry in store.entries(manifest.folder) if entry.key.endswith(".sha256")]
    if not keys:
        raise TaskError("file_missing", f"{name} is not in {store.url}")
    lines = store.get(keys[0]).decode(errors="replace").splitlines()
    listed = {file: digest for digest, _, file in (line.partition("  ") for line in lines)}
    if wrong := [file.name for file in manifest.files if listed.get(file.name) != file.sha256]:
        raise TaskError(
            "checksum_mismatch", f"{name} differs from the manifest for {', '.join(wrong)}: one of the two was changed"
        )


def _disk_full(manifest: Manifest, into: Path, why: str) -> TaskError:
    return TaskError("disk_full", f"no room for backup {manifest.id} in {into}: {why}. Give SCRATCH a larger volume")
