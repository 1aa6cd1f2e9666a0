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
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "docker-registry": "docker-registry",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "nsenter",
}
"""Package → a program (or file) of it that is looked for."""

IMAGES = {
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "umoci": "umoci",
}

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(program: str) -> str | None:
    """Where a system program is, also in the folders that a user's PATH often lacks."""
    if program.startswith("/"):
        return program if Path(program).exists() else None
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


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
    # The packages bring services of their own. A policy that answers 101 ("not allowed")
    # keeps them from being started; a machine that already has one keeps it.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    log = LOGS / "packages.log"
    try:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        try:
            ui.run(command, log=log, env=environment)
        except ui.SandboxError:
            # Most often the package lists are stale or were never fetched.
            ui.run(["apt-get", "update"], log=log, env=environment)
            ui.run(command, log=log, env=environment)
    finally:
        if ours:
            policy.unlink(missing_ok=True)
