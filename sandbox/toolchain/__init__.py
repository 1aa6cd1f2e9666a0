"""The programs the sandbox is made of, built from pinned Go modules or found on the machine.

Every folder beside this file that has a `go.mod` is one build. Results live in the
cache under a key of their sources, so a second checkout or a second run builds nothing.
"""

from __future__ import annotations

from sandbox.toolchain.engine import Toolchain, download_ahead, ensure, install_plugins, not_built
from sandbox.toolchain.languages import go, node
from sandbox.toolchain.parts import cluster_binaries, helm, kube_score, peer, peer_file

__all__ = [
    "Toolchain",
    "cluster_binaries",
    "download_ahead",
    "ensure",
    "go",
    "helm",
    "install_plugins",
    "kube_score",
    "node",
    "not_built",
    "peer",
    "peer_file",
]
