"""Which cluster the sandbox uses, and why: one that is there, one of kind's, or a node that is built here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sandbox.cluster import host, kind, layout
from sandbox.ui import SandboxError


@dataclass(frozen=True)
class Choice:
    kind: Literal["build", "kind", "existing"]
    why: str


@cache
def choose() -> Choice:
    """What SANDBOX names; without it an existing cluster, then what need not be compiled."""
    wanted = os.environ.get("SANDBOX", "")
    match wanted:
        case "build":
            return Choice("build", "SANDBOX=build")
        case "kind":
            if reason := kind.missing():
                raise SandboxError(f"SANDBOX=kind, but {reason}. Install it, or set SANDBOX=build.")
            return Choice("kind", "SANDBOX=kind")
        case "existing":
            if host.find_kubeconfig() is None:
                raise SandboxError(
                    "SANDBOX=existing, but KUBECONFIG names no cluster: set it, and RUNBOOK_REGISTRY to a registry "
                    "that this machine and the cluster's nodes both reach."
                )
            return Choice("existing", "SANDBOX=existing")
        case "":
            return _choose_available()
        case _:
            raise SandboxError(f"SANDBOX={wanted} is unknown: build, kind or existing.")


def _choose_available() -> Choice:
    if given := host.find_kubeconfig():
        return Choice("existing", f"KUBECONFIG={given} is set")
    if kind.exists():
        return Choice("kind", "this sandbox is one already")
    if layout.KUBECONFIG.exists():
        return Choice("build", "this sandbox is one already")
    if not (reason := kind.missing()):
        return Choice("kind", "Docker and kind are here, so Kubernetes need not be compiled; SANDBOX=build does")
    others = [name for name in ("k3d", "minikube") if shutil.which(name)]
    hint = f"; {others[0]} is here: with a cluster of it, set KUBECONFIG and RUNBOOK_REGISTRY" if others else ""
    return Choice("build", f"KUBECONFIG is not set and {reason}{hint}")
