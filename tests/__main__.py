"""`make test`: every check of a change, the quick ones first. `--quick` stops before a cluster is needed.
`--drills` adds emergency drills. `--install` only installs and builds what the tests need.

Ends with pytest's own closing line and exit code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import pytest

from sandbox import ui
from sandbox.paths import ENV_FILE, ROOT
from tests import changed, install
from tests.support.ordering import UNTIL

CI_SECONDS = 66 * 60
"""From the beginning of a run in CI, which has 90 minutes, until no test of the cluster begins any more: the last ones
take up to twenty minutes on a slow machine."""
THE_NODE = "tests/cluster/test_sandbox.py"
"""Kills parts of the node and checks that they are restarted."""


def check(title: str, command: Sequence[str]) -> None:
    """Run one check; its whole output is shown only when it fails."""
    with ui.step(title):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise SystemExit(f"{title} failed: {' '.join(command)}")


def environment_of_sandbox() -> dict[str, str]:
    """The environment of a shell after `. .sandbox/env`."""
    printed = subprocess.run(
        ["sh", "-c", '. "$1" && env -0', "sh", str(ENV_FILE)], capture_output=True, text=True, check=True
    ).stdout
    return dict(entry.split("=", 1) for entry in printed.split("\0") if "=" in entry)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="lint, types and unit tests only")
    parser.add_argument("--drills", action="store_true", help="also the emergency drills, which take minutes")
    parser.add_argument("--changed", nargs="?", const="", metavar="BASE", help="only the tests that a change can break")
    parser.add_argument("--install", action="store_true", help="install and build what the tests need, and stop")
    parser.add_argument(
        "--bare", action="store_true", help="first remove the Debian packages that only tests and image builds need"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before packages are removed")
    parser.add_argument("pytest", nargs="*", help="passed on to pytest, for example: -k rollback")
    arguments, began = parser.parse_args(), time.time()

    if arguments.bare:
        install.bare(yes=arguments.yes)
    if arguments.install:
        install.install()
        return 0
    tools = ROOT / ".venv" / "bin"
    check("lint", [str(tools / "ruff"), "check", "."])
    check("format", [str(tools / "ruff"), "format", "--check", "."])
    check("words", [sys.executable, "-m", "tests.words"])
    check("types", [str(tools / "basedpyright")])
    check("secrets in stack files", [str(tools / "runbook"), "secrets", "lint"])
    paths = {folder: [f"tests/{folder}"] for folder in changed.FOLDERS}
    if arguments.changed is not None:
        paths = changed.select_paths(arguments.changed or None)
    if arguments.quick or not paths["tasks"] + paths["cluster"]:
        install.install(quick=True)
        return run_pytest(dict(os.environ), paths["unit"], *arguments.pytest)
    install.install()
    subprocess.run([sys.executable, "-m", "sandbox", "up"], cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "sandbox.toolchain", "test"], cwd=ROOT, check=True)
    environment = environment_of_sandbox()
    if os.environ.get("CI") == "true":
        environment[UNTIL] = str(began + CI_SECONDS)
    node = [THE_NODE] if {THE_NODE, "tests/cluster"} & {*paths["cluster"]} else []
    rest = [path for path in paths["cluster"] if path != THE_NODE]
    # Files run side by side, the long ones first. The tests that kill parts of the node run while no other test
    # uses the cluster; they mostly wait, so that there is a processor for each of the others.
    workers = min(os.cpu_count() or 2, 4) + 1
    code = run_pytest(environment, [*node, *paths["tasks"], *paths["unit"]], *by_file(workers), *arguments.pytest)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return code
    which = [] if arguments.drills else ["-m", "not drill"]
    # The tests of the cluster wait for the one node as much as for each other: two at once are enough.
    apart = [f"--ignore={THE_NODE}", *by_file(2), "--durations=10", "-rs"]
    return run_pytest(environment, rest, *apart, *which, *arguments.pytest)


def by_file(workers: int) -> list[str]:
    """Each worker takes the next file, in the order in which they are collected."""
    return [f"--numprocesses={workers}", "--dist=loadfile", "--no-loadscope-reorder"]


def run_pytest(environment: Mapping[str, str], paths: Sequence[str], *arguments: str) -> int:
    if not paths:  # without any, pytest runs everything
        return pytest.ExitCode.OK
    return subprocess.run([sys.executable, "-m", "pytest", *paths, *arguments], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ui.SandboxError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
