"""The node: Linux namespaces whose first process is the supervisor.

Ending that one process ends every pod, mount, firewall rule and bridge of the sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from sandbox.cluster import layout, programs
from sandbox.paths import LOGS, STATE
from sandbox.ui import SandboxError

_START_SECONDS = 20
_CGROUPS = Path("/sys/fs/cgroup")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Node:
    """A running node, by the process id that the host knows its first process by."""

    pid: int

    def supervisor(self) -> Any:
        """The supervisor's RPC interface, reached through the node's own /run."""
        path = f"/proc/{self.pid}/root{programs.CONTROL_SOCKET}"
        transport = SupervisorTransport(None, None, f"unix://{path}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor

    def command(self, *command: str | Path) -> list[str]:
        """A command line that runs inside the node's namespaces."""
        worlds = ("--mount", "--net", "--uts", "--ipc", "--pid")
        return ["nsenter", f"--target={self.pid}", *worlds, "--", *map(str, command)]

    def open_socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of the node's network, in this process.

        Entering a namespace concerns one thread only, and a socket stays where it was made:
        so a thread enters, opens it, and ends.
        """
        opened: list[socket.socket | OSError] = []

        def enter_and_open() -> None:
            try:
                with Path(f"/proc/{self.pid}/ns/net").open("rb") as namespace:
                    if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "cannot enter the node's network")
                opened.append(socket.socket(socket.AF_INET, kind))
            except OSError as error:
                opened.append(error)

        thread = threading.Thread(target=enter_and_open)
        thread.start()
        thread.join()
        if isinstance(opened[0], OSError):
            raise opened[0]
        return opened[0]

    def start_remaining(self) -> None:
        """Start every program that is not up yet. One that is running is left alone."""
        for info in self.supervisor().getAllProcessInfo():
            if info["statename"] in ("STOPPED", "EXITED", "FATAL"):
                try:
                    self.supervisor().startProcess(info["name"], False)
                except xmlrpc.client.Fault as fault:  # started by someone else meanwhile
                    if "ALREADY_STARTED" not in fault.faultString:
                        raise

    def end(self) -> None:
        """End the node and wait until its last process is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            if not poller.poll(30_000):
                raise SandboxError(
                    f"the node's first process ({self.pid}) was killed but is still there after 30 s: "
                    f"see /proc/{self.pid}/stack"
                )
        finally:
            os.close(handle)


def find() -> Node | None:
    """The node of this state folder, if it is running."""
    try:
        pid = int(layout.NODE_PID.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    # A recycled pid belongs to some other program.
    return Node(pid) if os.fsencode(layout.CONF / "supervisord.conf") in command else None


def start() -> Node:
    """Start the node's namespaces and its supervisor, on existing data if there is any."""
    clean()
    _make_cgroups()
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / "supervisor.log").unlink(missing_ok=True)  # it counts the restarts of this node's life
    with (LOGS / "node.log").open("w") as log:
        process = subprocess.Popen(
            [
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"),
                str(Path(__file__).with_name("node.sh")),
            ],
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # outlives this terminal
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join((LOGS / "node.log").read_text().splitlines()[-10:])
            raise SandboxError(f"the node did not start (whole log: {LOGS / 'node.log'}):\n{tail}")
        node = find()
        if node is not None:
            try:
                node.supervisor().getState()
                return node
            except (OSError, xmlrpc.client.Error):
                pass
        time.sleep(0.02)
    raise SandboxError(f"the node's supervisor did not answer within {_START_SECONDS} s: see {LOGS / 'supervisor.log'}")


def clean() -> None:
    """Remove what a node that is no longer running left on the host: its pid file and its cgroups."""
    layout.NODE_PID.unlink(missing_ok=True)
    for folder in cgroups():
        _remove_cgroup(folder)


def cgroups() -> list[Path]:
    """The cgroups of this sandbox, one in each hierarchy."""
    return [folder for hierarchy in _hierarchies() if (folder := hierarchy / layout.CGROUP).is_dir()]


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "STATE": str(STATE),
        "NODE": layout.NODE,
        "NODE_IP": layout.NODE_IP,
        "SERVICE_CIDR": layout.SERVICE_CIDR,
        "PYTHON": sys.executable,
    }


def _make_cgroups() -> None:
    for hierarchy in _hierarchies():
        (hierarchy / layout.CGROUP).mkdir(exist_ok=True)
        if (shared := hierarchy / "cgroup.subtree_control").exists():  # version 2
            for controller in ("cpu", "cpuset", "memory", "pids", "io"):
                # What the machine does not give, kubelet will name.
                with contextlib.suppress(OSError):
                    shared.write_text(f"+{controller}")


def _hierarchies() -> list[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():  # version 2
        return [_CGROUPS]
    return [folder for folder in _CGROUPS.iterdir() if folder.is_dir() and not folder.is_symlink()]


def _remove_cgroup(folder: Path) -> None:
    """A cgroup goes once its last process is gone, innermost first."""
    deadline = time.monotonic() + 10
    for path, _, _ in os.walk(folder, topdown=False):
        while True:
            try:
                Path(path).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"cgroup {path} cannot be removed: {error}") from error
                time.sleep(0.02)
