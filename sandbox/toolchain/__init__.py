"""The programs of the sandbox, built from pinned Go modules or found on the machine.

Every folder beside this file that has a `go.mod` is one build. Results live in the
cache under a key of their sources, so a second checkout or a second run builds nothing.
"""

from __future__ import annotations

from sandbox.toolchain.engine import Toolchain, download_ahead, ensure, install_plugins, list_unbuilt
from sandbox.toolchain.languages import find_go, find_node
from sandbox.toolchain.parts import (
    build_actionlint,
    build_cluster_binaries,
    build_helm,
    build_kube_score,
    build_peer,
    find_peer_file,
)

__all__ = [
    "Toolchain",
    "build_actionlint",
    "build_cluster_binaries",
    "build_helm",
    "build_kube_score",
    "build_peer",
    "download_ahead",
    "ensure",
    "find_go",
    "find_node",
    "find_peer_file",
    "install_plugins",
    "list_unbuilt",
]
