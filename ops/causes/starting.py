"""Which pods of a rollout have started and are not ready. Pure: what the API server reported, and when, goes in."""

from __future__ import annotations

import threading
from collections.abc import Collection

from ops.causes.pods import Object, has_begun, is_ready, owner

_HASH = "pod-template-hash"


class StartingPods:
    """Pods of the versions that an update brings; safe to use from several threads."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before: set[tuple[str, str]] = set()
        """Deployment and template hash of pods that were there before the update changed their Deployment."""
        self._since: dict[str, tuple[float, str, str]] = {}
        """For each one that is not ready: when it was first seen started, its Deployment, its name."""
        self._lock = threading.Lock()

    def see(self, pod: Object, awaited: Collection[str], now: float, *, gone: bool = False) -> None:
        """`awaited`: the Deployments whose rollout the update waits for."""
        meta, (kind, name) = pod["metadata"], owner(pod)
        if kind != "Deployment":
            return
        version = (name, (meta.get("labels") or {}).get(_HASH, ""))
        with self._lock:
            if name not in awaited:
                self._before.add(version)
            elif gone or meta.get("deletionTimestamp") or is_ready(pod):
                self._since.pop(meta["uid"], None)
            elif version not in self._before and has_begun(pod):
                self._since.setdefault(meta["uid"], (now, name, meta["name"]))

    def find_late(self, now: float) -> list[tuple[str, str]]:
        """Each Deployment with a pod that is not ready in time, and what to say about it."""
        with self._lock:
            late = [item for item in self._since.values() if now - item[0] >= self._seconds]
        return [
            (name, f"has a pod that is not ready {self._seconds:g} s after its start ({pod})")
            for _, name, pod in sorted(late)
        ]
