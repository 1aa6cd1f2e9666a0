"""Tests only find what was installed before; and how that is installed and removed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox import cache, packages
from sandbox.ui import SandboxError
from tests import programs


def test_a_program_outside_the_list_cannot_be_started() -> None:
    with pytest.raises(programs.NotInstalledError, match=r"tests/programs\.py"):
        subprocess.run(["ls"])
    with pytest.raises(programs.NotInstalledError, match=r"tests/programs\.py"):
        subprocess.run(["apt-get", "--version"] if packages.find("apt-get") else ["ls"])


def test_a_program_of_the_list_that_is_missing_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(programs.NotInstalledError, match="tests --install"):
        subprocess.run(["promtool", "--version"], env={"PATH": str(tmp_path)})


def test_programs_of_the_list_of_a_test_and_of_the_lock_can_be_started(tmp_path: Path) -> None:
    script = tmp_path / "own"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    for command in (["true"], [str(script)], [sys.executable, "--version"]):
        assert subprocess.run(command, capture_output=True).returncode == 0


def test_nothing_is_built_by_a_test() -> None:
    with pytest.raises(SandboxError, match="tests --install"):
        cache.artifact("never-built", ["never"], lambda _: None)


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def test_lists_of_packages_are_fetched_once_another_process_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, ran = tmp_path / "lock", threading.Event()
    monkeypatch.setattr(packages, "_LISTS_LOCK", lock)
    monkeypatch.setattr(packages, "_apt", lambda *_: ran.set())
    holding = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        waiting = threading.Thread(target=packages._update)
        waiting.start()
        assert not ran.wait(0.3), "it did not wait"
        holder.communicate("\n")
    waiting.join(30)
    assert ran.is_set()


def test_apt_waits_for_its_own_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(packages.ui, "run", lambda command, **_: ran.append(command))
    packages._apt("install", "x")
    assert "DPkg::Lock::Timeout=900" in ran[0]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """What apt says would go, for the arguments given to it."""
    would: dict[str, set[str]] = {}
    record = tmp_path / "packages"
    record.write_text("haproxy\nliblua\nredis-server\n")
    monkeypatch.setattr(packages, "_RECORD", record)
    monkeypatch.setattr(packages, "_list_installed", lambda: {"haproxy", "liblua", "buildah", "redis-server"})
    monkeypatch.setattr(packages, "_simulate_removal", lambda *words: would[" ".join(words)])
    return would


LISTS = [{"haproxy": "haproxy", "buildah": "buildah"}]


def test_only_what_was_installed_from_here_is_removed(machine: dict[str, set[str]]) -> None:
    """buildah was there before, an orphan of others too, and redis-server is in no list."""
    machine["--auto-remove haproxy"] = {"haproxy", "liblua", "orphan-of-others"}
    machine["haproxy liblua"] = {"haproxy", "liblua"}
    assert packages.find_removable(LISTS) == ["haproxy", "liblua"]


def test_nothing_is_removed_that_another_package_needs(machine: dict[str, set[str]]) -> None:
    machine["--auto-remove haproxy"] = {"haproxy", "a-dashboard"}
    machine["haproxy"] = {"haproxy", "a-dashboard"}
    with pytest.raises(SandboxError, match="a-dashboard would be removed together"):
        packages.find_removable(LISTS)


def test_without_a_record_nothing_is_removed(machine: dict[str, set[str]]) -> None:
    packages._RECORD.unlink()
    assert packages.find_removable(LISTS) == []
