"""Debian packages of the sandbox and its tests: the lists, how they are installed, and how they are removed again."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import ui
from sandbox.paths import LOGS

CLUSTER = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "ptp",
    "docker-registry": "docker-registry",
    "iptables": "iptables",
    "ipset": "ipset",
    "iproute2": "ip",
    "util-linux": "nsenter",
}
"""Package → one of its programs. The package is installed only if that program is missing."""

IMAGES = {
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "umoci": "umoci",
}

UNIT_TESTS = {
    "prometheus": "promtool",
    "prometheus-alertmanager": "amtool",
}
"""What accepts or refuses the rules and routes that the settings make."""

TESTS = {
    "prometheus-postgres-exporter": "prometheus-postgres-exporter",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
    "postgresql-15": "/usr/lib/postgresql/15/bin/postgres",
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
    "haproxy": "haproxy",
    "clamav-daemon": "clamd",
    "chromium": "chromium",
    "faketime": "faketime",
    "procps": "ps",
}
"""What the other tests run besides: servers, a wrong clock, and a list of processes."""

FOR_TESTS = (IMAGES, UNIT_TESTS, TESTS)
"""What a cluster and a released shop do without once the images are built."""

_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/cni:/opt/cni/bin"

_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_SERVICES = "#!/bin/sh\n# The runbook sandbox is installing packages: their services must not start.\nexit 101\n"


_LOCK_SECONDS = 900
"""How long apt waits for another process that installs packages."""

_RECORD = Path("/var/lib/runbook-sandbox/packages")
"""Every package that was installed from here, dependencies included; beside dpkg's own record, with which it goes."""

_LISTS_LOCK = Path("/var/lib/apt/lists/lock")


def find(program: str) -> str | None:
    """Where a system program is, also in the folders that a user's PATH often lacks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PLACES}")


def require(program: str) -> str:
    """Like `find`, for a program that has been installed before."""
    found = find(program)
    if found is None:
        raise ui.SandboxError(f"{program} is not installed. What tests need: `python -m tests --install`")
    return found


def ensure(*groups: dict[str, str]) -> None:
    """Install missing packages in one run of apt on Debian and Ubuntu; elsewhere raise an error that names them."""
    if not _find_missing(groups):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        why = "this is not root" if shutil.which("apt-get") else "this is not Debian or Ubuntu"
        raise ui.SandboxError(
            f"the sandbox needs programs of these Debian packages, and {why}, so it cannot install them:\n"
            f"    {' '.join(_find_missing(groups))}\n"
            "Install them (or your system's own packages of the same programs) and run this again."
        )
    with _one_at_a_time():
        if missing := _find_missing(groups):  # what another run has not installed meanwhile
            with ui.step(f"install {', '.join(missing)}"):
                _install(missing)


def unpack(package: str, folder: Path) -> None:
    """Unpack a package's files into a folder, without installing it."""
    with _one_at_a_time():
        try:
            _apt("download", package, folder=folder)
        except ui.SandboxError:
            _update()
            _apt("download", package, folder=folder)
    for file in folder.glob("*.deb"):
        ui.run(["dpkg-deb", "--extract", str(file), str(folder)])
        file.unlink()


def find_removable(groups: Iterable[dict[str, str]]) -> list[str]:
    """Packages of these lists that were installed from here, and the dependencies that came with them and nothing
    else needs or recommends. What the machine had before, or has for another reason, is not among them."""
    recorded = set(_RECORD.read_text().split()) if _RECORD.exists() else set[str]()
    asked = sorted(recorded & {package for group in groups for package in group} & _list_installed())
    if not asked:
        return []
    # apt says which dependencies nothing needs or recommends any more. Orphans that others left are not ours to remove.
    ours = sorted(_simulate_removal("--auto-remove", *asked) & recorded)
    others = _simulate_removal(*ours) - set(ours)
    if others:
        raise ui.SandboxError(
            f"{' '.join(sorted(others))} would be removed together with {' '.join(asked)}: nothing was removed. "
            "Remove the packages that you no longer need with apt-get."
        )
    return ours


def remove(packages: list[str]) -> None:
    """Remove packages with their configuration and data."""
    with _one_at_a_time(), ui.step(f"remove {len(packages)} packages"):
        _apt("purge", "--yes", *packages)
        _record(set(_RECORD.read_text().split()) - set(packages))


def _find_missing(groups: Iterable[dict[str, str]]) -> list[str]:
    return [package for group in groups for package, program in group.items() if find(program) is None]


def _list_installed() -> set[str]:
    """Names of all packages that are installed."""
    listed = ui.run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n"])
    return {line.split()[1] for line in listed.splitlines() if line.startswith("installed ")}


def _simulate_removal(*arguments: str) -> set[str]:
    printed = ui.run(["apt-get", "--simulate", "purge", *arguments], env=os.environ | {"LC_ALL": "C"})
    return set(re.findall(r"^(?:Purg|Remv) ([^ :]+)", printed, re.MULTILINE))


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Among our own processes: the record and the policy against services are one for the machine."""
    _RECORD.parent.mkdir(exist_ok=True)
    with _RECORD.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ui.note("another process is installing packages, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(packages: list[str]) -> None:
    # Debian's way to keep a package's services from being started. Where the machine has
    # a policy of its own, that one is kept; ours is removed, also that of a killed run.
    ours = not _POLICY.exists() or _POLICY.read_text() == _NO_SERVICES
    if ours:
        _POLICY.write_text(_NO_SERVICES)
        _POLICY.chmod(0o755)
    before = _list_installed()
    command = ("install", "--yes", "--no-install-recommends", *packages)
    try:
        try:
            _apt(*command)
        except ui.SandboxError:
            # Most often the package lists are stale or were never fetched.
            _update()
            _apt(*command)
    finally:
        known = set(_RECORD.read_text().split()) if _RECORD.exists() else set[str]()
        _record(known | (_list_installed() - before))
        if ours:
            _POLICY.unlink(missing_ok=True)


def _record(packages: set[str]) -> None:
    fresh = _RECORD.with_suffix(".new")
    fresh.write_text("".join(f"{name}\n" for name in sorted(packages)))
    fresh.replace(_RECORD)


def _update() -> None:
    # For this lock apt itself does not wait; another process may take it between our wait and apt's try.
    for last_try in (False, False, True):
        with _LISTS_LOCK.open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
        try:
            _apt("update")
            return
        except ui.SandboxError as error:
            if last_try or str(_LISTS_LOCK) not in str(error):
                raise


def _apt(*arguments: str, folder: Path | None = None) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "--option", f"DPkg::Lock::Timeout={_LOCK_SECONDS}", *arguments]
    ui.run(command, log=LOGS / "packages.log", env=environment, cwd=folder)
