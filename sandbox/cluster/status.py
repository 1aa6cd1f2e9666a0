"""What runs in the node: every program, since when, how often it had to be restarted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster import node
from sandbox.paths import LOGS
from sandbox.ui import SandboxError

_SPAWNED = re.compile(r"spawned: '(?P<name>[^']+)' with pid")


@dataclass(frozen=True)
class Component:
    name: str
    state: str
    """RUNNING, STARTING, BACKOFF (waiting for its next start), STOPPED …"""
    pid: int | None
    """As the host sees it."""
    uptime_seconds: int
    restarts: int
    log: str


def status() -> list[Component]:
    """Every program of the node; empty when the node is not running."""
    running = node.find()
    if running is None:
        return []
    starts = _starts()
    pids = _host_pids(running)
    return [
        Component(
            name=info["name"],
            state=info["statename"],
            pid=pids.get(info["pid"]),
            uptime_seconds=info["now"] - info["start"] if info["statename"] == "RUNNING" else 0,
            restarts=max(0, starts.get(info["name"], 0) - 1),
            log=str(LOGS / f"{info['name']}.log"),
        )
        for info in running.supervisor().getAllProcessInfo()
    ]


def logs(name: str) -> Path:
    """The log of one program."""
    known = sorted(path.stem for path in LOGS.glob("*.log"))
    if name not in known:
        raise SandboxError(f"no log named {name!r} in {LOGS}; there is: {', '.join(known) or 'none yet'}")
    return LOGS / f"{name}.log"


def _starts() -> dict[str, int]:
    """How often the supervisor started each program in this life of the node."""
    counts: dict[str, int] = {}
    for match in _SPAWNED.finditer((LOGS / "supervisor.log").read_text(errors="replace")):
        counts[match["name"]] = counts.get(match["name"], 0) + 1
    return counts


def _host_pids(running: node.Node) -> dict[int, int]:
    """Pid inside the node → pid on the host, for the supervisor's children."""
    found: dict[int, int] = {}
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    for pid in children.read_text().split():
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in lines:
            if line.startswith("NSpid:"):
                found[int(line.split()[-1])] = int(pid)
    return found
