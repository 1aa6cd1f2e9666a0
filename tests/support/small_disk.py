"""A folder with little space, for a command that a test starts. Only root may mount it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")


def tiny(folder: Path, mebibytes: int) -> list[str]:
    """A prefix for a command that limits the space in this folder."""
    mount = f'mount -t tmpfs -o size={mebibytes}m none "{folder}" && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", mount, "sh"]
