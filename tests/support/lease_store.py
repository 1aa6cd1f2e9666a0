"""Leases as an API server keeps them: each write needs the version that was read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from lightkube.resources.coordination_v1 import Lease

from ops.adapters.cluster import Unreachable


class LeaseStore:
    """The Leases of a namespace, in memory, for several threads."""

    def __init__(self) -> None:
        self._leases: dict[str, dict[str, object]] = {}
        self._version = 0
        self._changed = threading.Condition()
        self.reachable = True
        self.refused = threading.Event()

    def read_lease(self, name: str) -> Lease | None:
        with self._changed:
            self._require_reachable()
            found = self._leases.get(name)
            return Lease.from_dict(found) if found else None

    def write_lease(self, lease: Lease) -> Lease | None:
        with self._changed:
            self._require_reachable()
            written = lease.to_dict()
            name = written["metadata"]["name"]
            now = self._leases.get(name)
            if written["metadata"].get("resourceVersion") != (now["metadata"]["resourceVersion"] if now else None):  # type: ignore[index]
                return None
            self._version += 1
            written["metadata"]["resourceVersion"] = str(self._version)
            self._leases[name] = written
            self._changed.notify_all()
            return Lease.from_dict(written)

    def await_lease(self, name: str, seconds: float, seen: Lease | None = None) -> Lease | None:
        """The Lease as soon as it is another than `seen`; None when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._leases.get(name) not in (None, seen and seen.to_dict()), seconds)
            found = self._leases.get(name)
        return None if found in (None, seen and seen.to_dict()) else Lease.from_dict(found)

    def watch_lease(self, name: str, seconds: float) -> Iterator[Lease]:
        deadline, seen = time.monotonic() + seconds, None
        while (left := deadline - time.monotonic()) > 0:
            seen = self.await_lease(name, left, seen) or seen
            if seen and deadline > time.monotonic():
                yield seen

    def _require_reachable(self) -> None:
        if not self.reachable:
            self.refused.set()
            raise Unreachable("the cluster cannot be reached")
