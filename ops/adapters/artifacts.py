"""What a build made, packed so that the same files give the same bytes, and named by their digest."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

_PART = 1 << 20


def archive_outputs(folder: Path, paths: Sequence[str], target: Path) -> tuple[str, Path]:
    """Pack these paths of `folder` into `target`/artifacts-DIGEST.tar.gz; (SHA-256 of that file, the file).

    Dates and owners are left out. An archive that is there already is not written again.
    """
    target.mkdir(parents=True, exist_ok=True)
    scratch = target / f".artifacts.{os.getpid()}"
    try:
        with (
            scratch.open("wb") as file,
            gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in sorted({entry for path in paths for entry in _list_entries(folder, path)}):
                tar.add(folder / name, name, recursive=False, filter=_without_origin)
        with scratch.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        made = target / f"artifacts-{digest}.tar.gz"
        scratch.replace(made)
    finally:
        scratch.unlink(missing_ok=True)
    return f"sha256:{digest}", made


def _list_entries(folder: Path, path: str) -> list[str]:
    root = folder / path
    below = sorted(root.rglob("*")) if root.is_dir() and not root.is_symlink() else []
    return [str(entry.relative_to(folder)) for entry in (root, *below)]


def _without_origin(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry
