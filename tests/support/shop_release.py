"""The sample shop's release v2 as its image carries it, for tests that run its commands on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sandbox.images import shop
from sandbox.paths import LOGS, ROOT


def copy_release(folder: Path) -> dict[str, str]:
    """Copy it into a new folder; the variables that its commands need to be found."""
    built, runtime = (find(LOGS / "shop.log") for find in (shop.application, shop.node))
    shutil.copytree(built / "app", folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(built / "app" / "node_modules")
    release = ROOT / "sandbox" / "shop" / "releases" / "v2.json"
    shutil.copy(release, folder / "backend" / "release.json")
    shutil.copytree(ROOT / "sandbox" / "shop" / "migrations", folder / "backend" / "migrations")
    for file in (folder / "backend" / "migrations").iterdir():
        if file.name not in release.read_text():
            file.unlink()
    return {
        "PATH": f"{runtime / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder.parent),
        "npm_config_update_notifier": "false",
    }
