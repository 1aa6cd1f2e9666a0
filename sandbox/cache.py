"""Build results kept outside the checkout, keyed by the content that made them.

A result appears under its final name only when it is complete, so that a build
killed half-way is never mistaken for a finished one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from sandbox import ui
from sandbox.paths import CACHE

install_command: str | None = None
"""If set, this process builds nothing: a missing artifact is an error that names this command."""

_IGNORED = {"node_modules", "__pycache__", ".git", "dist"}


def content_key(inputs: Iterable[Path | str]) -> str:
    """Hash of files (by relative name and bytes, folders walked) and plain strings, in the given order."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            digest.update(b"text\0" + item.encode() + b"\0")
            continue
        for file in _files(item):
            name = file.relative_to(item.parent).as_posix()
            executable = os.access(file, os.X_OK)
            digest.update(f"file\0{name}\0{executable}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _files(item: Path) -> list[Path]:
    if item.is_file():
        return [item]
    if not item.exists():
        raise FileNotFoundError(f"build input {item} does not exist")
    found: list[Path] = []
    for folder, folders, names in os.walk(item):
        folders[:] = sorted(set(folders) - _IGNORED)
        found += [Path(folder, name) for name in sorted(names)]
    return found


def artifact(name: str, inputs: Iterable[Path | str], build: Callable[[Path], None]) -> Path:
    """The folder that `build` filled for exactly these inputs, building it only if it is not there yet.

    `build` gets an empty folder to write into. Two processes that want the same
    artifact build it once: the second waits for the first.
    """
    final = CACHE / name / content_key(inputs)
    if final.is_dir():
        return final
    if install_command:
        raise ui.SandboxError(f"{name} is not built from the present sources: run `{install_command}`")
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / f"{final.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ui.note(f"{name}: another process is building it, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            return final
        for leftover in final.parent.glob(f".{final.name}.*"):
            shutil.rmtree(leftover)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        with ui.step(f"build {name}"):
            build(scratch)
        scratch.chmod(0o755)
        scratch.rename(final)
    return final
