"""Checks of the machine: requirements before the node starts, leftovers after it has ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cluster import layout, node
from sandbox.paths import CACHE, ROOT, STATE
from sandbox.ui import SandboxError

_INSTEAD = (
    "Use a cluster that is there already: set KUBECONFIG to its configuration and RUNBOOK_REGISTRY to "
    "a registry that both this machine and the cluster's nodes can reach (kind, k3d, minikube and Docker "
    "Desktop all offer one), then run this again. Or run it on a Linux machine as root."
)


def find_kubeconfig() -> Path | None:
    """The configuration of a cluster that the user wants used instead of the sandbox's own."""
    path = os.environ.get("KUBECONFIG")
    return Path(path) if path and Path(path).absolute() != layout.KUBECONFIG else None


def check_kubeconfig(kubeconfig: Path) -> tuple[str, str]:
    """Registry and base URL to use with that cluster, after making sure that it can be used."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise SandboxError(f"KUBECONFIG={kubeconfig} is set, but kubectl is not installed: install it")
    try:
        ui.run([kubectl, "get", "--raw=/readyz", "--request-timeout=10s"])
    except SandboxError as error:
        raise SandboxError(f"the API server of KUBECONFIG={kubeconfig} does not answer.\n{error}") from error
    registry = os.environ.get("RUNBOOK_REGISTRY")
    if not registry:
        raise SandboxError(
            "with your own cluster the images need a registry that this machine and the cluster's nodes "
            "both reach: set RUNBOOK_REGISTRY=HOST:PORT"
        )
    for kind in ("storageclass", "ingressclass"):
        if not ui.run([kubectl, "get", kind, "--output=name"]).strip():
            ui.note(f"that cluster has no {kind}: objects that need one are pending until you add it")
    return registry, os.environ.get("RUNBOOK_URL", "http://localhost")


def check() -> None:
    """Raise, and name the alternative, if this machine cannot host a node."""
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox's own Kubernetes needs Linux; this is {sys.platform}. {_INSTEAD}")
    if os.geteuid() != 0:
        raise SandboxError(f"the sandbox's own Kubernetes needs root (namespaces, mounts, cgroups). {_INSTEAD}")
    if shutil.which("unshare") is None:
        raise SandboxError("unshare (package util-linux) is missing: install it and run this again")
    trial = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if trial.returncode != 0:
        raise SandboxError(f"this machine does not allow private namespaces: {trial.stderr.strip()}. {_INSTEAD}")
    if not Path("/sys/fs/cgroup").is_dir() or not os.access("/sys/fs/cgroup", os.W_OK):
        raise SandboxError(f"/sys/fs/cgroup is not writable here. {_INSTEAD}")
    for folder in (ROOT, STATE, CACHE, Path(sys.prefix)):
        for hidden in ("/var/lib", "/var/log", "/run"):
            if folder.resolve().is_relative_to(hidden):
                raise SandboxError(
                    f"{folder} is in {hidden}, which the node replaces by its own. Use a checkout elsewhere "
                    "or set RUNBOOK_SANDBOX_STATE and RUNBOOK_SANDBOX_CACHE to folders elsewhere."
                )


def assert_nothing_left() -> None:
    """Raise if anything of the sandbox is still on the machine, its data aside."""
    left = [f"cgroup {path}" for path in node.cgroups()]
    left += [f"process {pid}: {command}" for pid, command in _processes()]
    left += [f"mount {line}" for line in _mounts()]
    if left:
        raise SandboxError("the node has ended, but these remain:\n    " + "\n    ".join(left))


def _processes() -> list[tuple[str, str]]:
    """Processes that run programs on behalf of this state folder, other than the caller's own."""
    found: list[tuple[str, str]] = []
    marks = (f"{layout.CONF}/", f"{layout.KUBECONFIGS}/", f"{layout.NODE_DATA}/", f"{layout.PKI}/")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(mark in command for mark in marks) and not command.startswith(("tail ", "less ", "cat ")):
            found.append((entry.name, command[:120]))
    return found


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith(f"{STATE}/")]
