"""Leader election with a Lease. A holder that cannot renew it stops before another controller may take it, and one
that sees another holder stops at once.

As in client-go, no node's clock is compared with another's: a lease has expired when no change of it was observed
for its duration, by this process's own monotonic clock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import NoReturn

import httpx
from lightkube import ApiError, Client
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from ops.controller.workspace import NAME

SECONDS = 15
"""Seconds without an observed change after which another may take it."""
_STOP_SECONDS = 10
"""Seconds without a renewal after which the holder stops, together with its engine."""
_RENEW_SECONDS = 3
_RETRY_SECONDS = 1


class LeaderLease:
    """The lease, from `acquire` to `release`."""

    def __init__(self, client: Client, identity: str) -> None:
        self._client, self._me = client, identity
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self.renewed = 0.0
        self._seen: tuple[str, datetime | None, int] | None = None
        """Holder, renewal and transitions of the lease at its last observed change."""
        self._seen_at = 0.0

    def acquire(self, stopping: threading.Event) -> bool:
        """Wait for the lease; False when the process is stopped first."""
        while not stopping.is_set():
            if self._try():
                self._thread.start()
                return True
            stopping.wait(_RETRY_SECONDS)
        return False

    def release(self) -> None:
        """Give the lease up, so that the next controller need not wait for it to expire."""
        self._stop.set()
        self._thread.join()
        try:
            lease = self._client.get(Lease, NAME)
            if lease.spec and lease.spec.holderIdentity == self._me:
                lease.spec.holderIdentity = ""
                self._client.replace(lease)
        except (ApiError, httpx.HTTPError) as error:
            # A pod deleted by force has no identity any more: the next controller waits until the lease expires.
            print(f"lease: not released ({_code(error)})", file=sys.stderr)

    @property
    def alive(self) -> bool:
        return time.monotonic() - self.renewed < _STOP_SECONDS

    def _try(self) -> bool:
        """Take or renew it. The API server rejects a stale resourceVersion."""
        began, now = time.monotonic(), datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond or 1)  # the API server requires microseconds
        try:
            lease = self._read(now)
            spec = lease.spec
            if spec is None:
                return False
            if spec.holderIdentity != self._me:
                if spec.holderIdentity and self._thread.is_alive():
                    _stop_at_once(f"{spec.holderIdentity} holds it")
                if spec.holderIdentity and not self._expired(spec):
                    return False
                spec.holderIdentity, spec.acquireTime = self._me, now
                spec.leaseTransitions = (spec.leaseTransitions or 0) + 1
            spec.renewTime, spec.leaseDurationSeconds = now, SECONDS
            self._client.replace(lease)
        except (ApiError, httpx.HTTPError) as error:
            print(f"lease: not acquired ({_code(error)})", file=sys.stderr)
            return False
        self.renewed = began
        return True

    def _expired(self, spec: LeaseSpec) -> bool:
        """Whether another's lease stayed the same for its whole duration, as observed here."""
        seen = (spec.holderIdentity or "", spec.renewTime, spec.leaseTransitions or 0)
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() - self._seen_at >= (spec.leaseDurationSeconds or SECONDS)

    def _read(self, now: datetime) -> Lease:
        try:
            return self._client.get(Lease, NAME)
        except ApiError as error:
            if error.status.code != 404:
                raise
            spec = LeaseSpec(holderIdentity=self._me, acquireTime=now, renewTime=now, leaseDurationSeconds=SECONDS)
            return self._client.create(Lease(metadata=ObjectMeta(name=NAME), spec=spec))

    def _keep(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS if self.alive else _RETRY_SECONDS):
            if not self._try() and not self.alive:
                _stop_at_once("it could not be renewed")


def _stop_at_once(why: str) -> NoReturn:
    """The engine's process ends with the container, so nothing writes any more."""
    print(f"lease: lost, stopping at once: {why}", file=sys.stderr)
    os._exit(70)


def _code(error: ApiError | httpx.HTTPError) -> str:
    return str(error.status.code) if isinstance(error, ApiError) else type(error).__name__
