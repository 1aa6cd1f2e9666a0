"""Which process on which machine: a process id alone names another process in another container or after a restart.

Linux only: elsewhere nothing is known of a process, and so no process is ever known to be gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, named so that no other process has the same name."""

    pid: int
    boot: str
    """Id of the boot of its kernel, new at each start of the machine."""
    namespace: str
    """Its PID namespace: each container has its own."""
    started: str
    """When it started, in clock ticks after the boot."""

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """The process with this id as this process sees it; None where it does not exist or nothing is known."""
        try:
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            namespace = str((_PROC / str(pid) / "ns/pid").readlink())
            # The name of the program, in brackets, may contain blanks and brackets.
            fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        state, started = fields[0], fields[19]
        return None if state in "ZX" else cls(pid, boot, namespace, started)

    @classmethod
    def from_dict(cls, found: object) -> Process | None:
        try:
            pid, boot, namespace, started = (found[key] for key in ("pid", "boot", "pidNamespace", "started"))  # type: ignore[index]
            return cls(int(pid), str(boot), str(namespace), str(started))
        except (TypeError, KeyError, ValueError):
            return None

    def to_dict(self) -> Mapping[str, Any]:
        return {"pid": self.pid, "boot": self.boot, "pidNamespace": self.namespace, "started": self.started}

    def is_gone(self) -> bool:
        """True only when it is known to have ended: same boot and same PID namespace as this process, and not there."""
        here = Process.find(os.getpid())
        if here is None or (here.boot, here.namespace) != (self.boot, self.namespace):
            return False
        return Process.find(self.pid) != self
