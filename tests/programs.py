"""The programs that tests start, and the check at each start that there are no others.

Tests install, build and download nothing: `python -m tests --install` does that before the first of them starts.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sandbox import cache, packages
from sandbox.paths import CACHE, ROOT, STATE

INSTALL = "python -m tests --install"

_README = {"git", "go", "make", "node", "npm", "python3"}
"""Programs that the README requires."""

_ESSENTIAL = {
    "bash",
    "cat",
    "mount",
    "nsenter",
    "setpriv",
    "sh",
    "sha256sum",
    "tar",
    "true",
    "umount",
    "uname",
    "unshare",
}
"""Programs that every Debian has."""

_POSTGRES = {"initdb", "pg_dump", "pg_dumpall", "pg_restore", "postgres", "psql"}
_WITH_OTHERS = {"iptables-save", "promtool", "prometheus-alertmanager", "redis-cli", *_POSTGRES}
"""Programs that come with a package of the lists beside the one it is looked for by."""

SYSTEM = {
    *_README,
    *_ESSENTIAL,
    *_WITH_OTHERS,
    *(Path(program).name for group in packages.FOR_TESTS for program in group.values()),
}
"""All programs of the machine that tests start."""

_BUILT = {"kubectl", "pulumi", "runbook"}
"""Programs that `make up` builds, or finds."""

_OURS = [ROOT, STATE, CACHE, Path(sys.prefix), Path(sys.base_prefix), Path(tempfile.gettempdir())]
"""Folders of programs that were built here, come with the Python packages of the lock, or are a test's own."""


class NotInstalledError(Exception):
    """A program is missing, or none that tests may start."""


def watch() -> None:
    """From now on, starting any other program is an error in this process, and so is building what the cache lacks."""
    cache.install_command = INSTALL
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event == "subprocess.Popen":
        program, _, folder, environment = arguments
        check(os.fsdecode(program), folder, environment)  # pyright: ignore[reportArgumentType] # as the event documents


def check(program: str, folder: str | os.PathLike[str] | None, environment: Mapping[str, str] | None) -> None:
    """Raise unless tests may start `program`, as it would be found with this environment."""
    found = shutil.which(program, path=os.pathsep.join(os.get_exec_path(environment)))
    name = Path(program).name
    if found is None:
        if name in SYSTEM | _BUILT and not Path(folder or ".", program).exists():
            raise NotInstalledError(f"{program} is not there. Run `make up`, and then `{INSTALL}`.")
        return  # what a test expects to be missing
    # By its folder's real place, not by its own: links of one's own lead to what the machine has.
    place = Path(folder or ".", found).parent.resolve()
    if name not in SYSTEM | _BUILT and not any(place.is_relative_to(ours.resolve()) for ours in _OURS):
        raise NotInstalledError(
            f"Tests start no {name} of this machine ({found}): add it to tests/programs.py, and its package to "
            "sandbox/packages.py, so that a machine that has nothing gets it."
        )
