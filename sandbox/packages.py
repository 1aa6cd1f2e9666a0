"""Debian packages the sandbox needs: the one list, and how it is installed."""

from __future__ import annotations

import os
import shutil
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
"""Package → a program of it that is looked for: the same program from elsewhere does as well."""

IMAGES = {
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "umoci": "umoci",
}

TESTS = {
    "prometheus": "promtool",
    "prometheus-alertmanager": "amtool",
    "prometheus-postgres-exporter": "prometheus-postgres-exporter",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
    "postgresql-15": "/usr/lib/postgresql/15/bin/postgres",
    "redis-server": "redis-server",
    "haproxy": "haproxy",
    "faketime": "faketime",
}
"""What the tests of tasks run besides: servers and a wrong clock."""

_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/cni:/opt/cni/bin"

_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_SERVICES = "#!/bin/sh\n# The runbook sandbox is installing packages: their services must not start.\nexit 101\n"


def find(program: str) -> str | None:
    """Where a system program is, also in the folders that a user's PATH often lacks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PLACES}")


def installed(program: str) -> str:
    """Like `find`, for a program that `ensure` has seen to."""
    found = find(program)
    if found is None:
        raise ui.SandboxError(f"{program} is neither on PATH nor in {_PLACES}")
    return found


def ensure(*groups: dict[str, str]) -> None:
    """Install what is missing, in one go, on Debian and Ubuntu; name it clearly elsewhere."""
    missing = [package for group in groups for package, program in group.items() if find(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        why = "this is not root" if shutil.which("apt-get") else "this is not Debian or Ubuntu"
        raise ui.SandboxError(
            f"the sandbox needs programs of these Debian packages, and {why}, so it cannot install them:\n"
            f"    {' '.join(missing)}\n"
            "Install them (or your system's own packages of the same programs) and run this again."
        )
    with ui.step(f"install {', '.join(missing)}"):
        _install(missing)


def _install(packages: list[str]) -> None:
    # Debian's way to keep a package's services from being started. Where the machine has
    # a policy of its own, that one stands; ours goes, also if it is a killed run's.
    ours = not _POLICY.exists() or _POLICY.read_text() == _NO_SERVICES
    if ours:
        _POLICY.write_text(_NO_SERVICES)
        _POLICY.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    log = LOGS / "packages.log"
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    try:
        try:
            ui.run(command, log=log, env=environment)
        except ui.SandboxError:
            # Most often the package lists are stale or were never fetched.
            ui.run(["apt-get", "update"], log=log, env=environment)
            ui.run(command, log=log, env=environment)
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
