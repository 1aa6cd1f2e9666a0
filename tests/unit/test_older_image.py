"""A tasks image that is older than the program: what guards a migration does not keep it from beginning."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from settings.commands import MIGRATION_GUARD
from tests.support.program import ROOT, Program


def guard_command(sandbox: Program, ready: Path) -> list[str]:
    [job] = [job for job in sandbox.all("Job") if job.object_name.startswith("migrate-")]
    [container] = [item for item in job.containers if item["name"] == MIGRATION_GUARD]
    words = list(container["command"])
    words[words.index("--ready") + 1] = str(ready)
    return [sys.executable, *words[1:]]


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://shop:x@127.0.0.1:1/shop?connect_timeout=1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("missing", ["verb", "group"])
def test_an_image_without_the_guard_lets_the_migration_begin(sandbox: Program, tmp_path: Path, missing: str) -> None:
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    if missing == "verb":
        commands = tmp_path / "tasks/backup/commands.py"
        commands.write_text(commands.read_text().replace('"guard-migration"', '"something-else"'))
    else:
        main = tmp_path / "tasks/__main__.py"
        main.write_text(main.read_text().replace('"backup":', '"backups":'))
    process = start(guard_command(sandbox, tmp_path / "ready"), tmp_path)
    try:
        assert process.stderr
        said = ""
        while "not guarded" not in said:
            line = process.stderr.readline()
            assert line, f"it ended with {process.wait()}: {said}"
            said += line
        assert "runbook:image" in said
        deadline = time.monotonic() + 30
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.poll() is None, "it runs until the migration has ended"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()


def test_any_other_failure_ends_the_guard(sandbox: Program, tmp_path: Path) -> None:
    process = start(guard_command(sandbox, tmp_path / "ready"), ROOT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not guarded" not in said
