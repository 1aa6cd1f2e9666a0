"""The policy pack's only package besides the engine's, which needs an older protobuf than this project has by its own
word, and runs with the newer one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.paths import LOGS, ROOT

REQUIREMENTS = ROOT / "policy" / "requirements.txt"


def packages() -> Path:
    """Folder for PYTHONPATH with pulumi_policy, at the version and hash of the pack's lock file."""
    found = re.search(r"^pulumi-policy==.*?(?=^\S)", REQUIREMENTS.read_text() + "end\n", re.MULTILINE | re.DOTALL)
    assert found, f"{REQUIREMENTS} does not name pulumi-policy"

    def build(target: Path) -> None:
        wanted = target / "requirements.txt"
        wanted.write_text(found[0])
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        ui.run([*command, "--target", target, "--requirement", wanted], log=LOGS / "policy.log")

    return artifact("tests-pulumi-policy", [found[0], Path(__file__)], build)
