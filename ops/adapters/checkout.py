"""A checkout of the application: its commit, and a hash of its content."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ops.errors import Refused

_LEFT_OUT = {".git", "node_modules", "__pycache__", ".venv"}
"""Folders of a directory that is not under git which are no code."""


@dataclass(frozen=True)
class Checkout:
    """A directory with the application's code."""

    folder: Path
    besides: Path | None = None
    """A folder that may be in it and is no part of the code: the reports about it."""

    @property
    def commit(self) -> str | None:
        """The commit that is checked out; None where there is no git."""
        return self._git("rev-parse", "--verify", "--quiet", "HEAD").strip() or None

    @property
    def is_changed(self) -> bool:
        """Whether something differs from the commit."""
        besides = [f":(exclude){left_out}"] if (left_out := self._left_out) else []
        return bool(self._git("status", "--porcelain", "--", ".", *besides).strip())

    def hash_content(self) -> str:
        """A hash of names, modes and contents of all files that are not ignored."""
        made = hashlib.sha256()
        for name in self._list_files():
            if self._left_out and Path(name).is_relative_to(self._left_out):
                continue
            path = self.folder / name
            try:
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    kind, content = b"link", os.fsencode(path.readlink())
                elif stat.S_ISREG(mode):
                    kind, content = (b"program" if mode & 0o100 else b"file"), path.read_bytes()
                else:
                    continue  # a submodule: its commit is in the index, and its files are not ours
            except FileNotFoundError:
                continue  # deleted, and still in the index
            made.update(b"\0".join((os.fsencode(name), kind, hashlib.sha256(content).digest())))
        return f"sha256:{made.hexdigest()}"

    @property
    def _left_out(self) -> str | None:
        inside = self.besides and self.besides.is_relative_to(self.folder) and self.besides != self.folder
        return str(self.besides.relative_to(self.folder)) if self.besides and inside else None

    def _list_files(self) -> list[str]:
        listed = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if listed:
            return sorted(set(listed.split("\0")) - {""})
        found: list[str] = []
        for folder, below, files in os.walk(self.folder):
            below[:] = [name for name in below if name not in _LEFT_OUT]
            found += [str((Path(folder) / name).relative_to(self.folder)) for name in files]
        return sorted(found)

    def _git(self, *words: str) -> str:
        """What git prints; empty where it fails, as it does outside a repository."""
        try:
            command = ["git", "-C", str(self.folder), *words]
            done = subprocess.run(command, check=False, capture_output=True, text=True, errors="surrogateescape")
        except FileNotFoundError:
            raise Refused("git is not installed: it says which commit is checked. Nothing was run.") from None
        return done.stdout if done.returncode == 0 else ""
