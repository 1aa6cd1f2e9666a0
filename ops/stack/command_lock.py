"""One lock for a whole command: a Lease in the stack's namespace, held by the command that changes the stack.

Operators' commands, workflows and the rollback controller hold it from their first decision to their last update, on
every machine and with every backend of the state. The holder renews it. It is taken over when its process is known to
have ended, or when it was not renewed for `SECONDS`, measured by the clock of the one who waits. A holder that sees
another one stops its engine at once. Plain `pulumi up` does not hold it: see `ops/commands/update.py`.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from ops.errors import Interrupted, OpsError
from ops.stack.locks import EngineLock, Locked
from ops.stack.process_identity import Process
from settings.names import COMMAND_LOCK

SECONDS = 30
"""Seconds without a renewal after which another command may take the lock."""
_RENEW_SECONDS = 5
_COMMAND = "runbook/command"
"""Annotation: who holds the lock, since when, for what."""


class Leases(Protocol):
    """The Leases of the stack's namespace."""

    def read_lease(self, name: str) -> Lease | None:
        """The Lease; None where it, or its namespace, does not exist."""
        ...

    def write_lease(self, lease: Lease) -> Lease | None:
        """Create or replace it; None when another one wrote it since it was read, or the namespace does not exist."""
        ...

    def watch_lease(self, name: str, seconds: float) -> Iterator[Lease]:
        """The Lease as it is, and after each change, until the time is over."""
        ...


@dataclass(frozen=True)
class Holder:
    """A command that holds, or held, the lock of a stack."""

    user: str
    host: str
    doing: str
    since: str
    process: Process | None

    @classmethod
    def of_this_process(cls, doing: str) -> Holder:
        user = os.environ.get("RUNBOOK_USER") or getpass.getuser()
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return cls(user, socket.gethostname(), doing, now, Process.find(os.getpid()))

    @classmethod
    def of(cls, lease: Lease) -> Holder | None:
        """The holder that a Lease names; None when it is free."""
        if not (lease.spec and lease.spec.holderIdentity):
            return None
        try:
            found = json.loads(((lease.metadata and lease.metadata.annotations) or {})[_COMMAND])
            user, host, doing, since = (str(found[key]) for key in ("user", "host", "doing", "since"))
            return cls(user, host, doing, since, Process.from_dict(found["process"]))
        except (KeyError, TypeError, ValueError):
            return cls("unknown", lease.spec.holderIdentity, "unknown", "unknown", None)

    def to_dict(self) -> dict[str, Any]:
        process = self.process.to_dict() if self.process else None
        return {"user": self.user, "host": self.host, "doing": self.doing, "since": self.since, "process": process}

    def __str__(self) -> str:
        return f"`{self.doing}` by {self.user}@{self.host} since {self.since}"

    def as_lock(self) -> EngineLock:
        """In the form of an engine's lock, for messages and for rules about who is gone."""
        return EngineLock(self.user, self.host, self.process.pid if self.process else 0, self.since)


class CommandLock:
    """The lock of one stack, from `acquire` to `release`.

    `is_gone`: whether a holder of another machine is known to have ended. `stop`: ends the engine in order, called when
    another command has taken the lock. `patience`: seconds to wait for a command that holds the lock.
    """

    def __init__(
        self,
        leases: Leases,
        doing: str,
        *,
        is_gone: Callable[[Holder], bool] = lambda _: False,
        say: Callable[[str], object] = lambda _: None,
        stop: Callable[[], object] = lambda: None,
        patience: float = 0,
    ) -> None:
        self._leases, self._is_gone, self._say, self._stop_engine = leases, is_gone, say, stop
        self._me = Holder.of_this_process(doing)
        self._identity = f"{self._me.user}@{self._me.host}/{secrets.token_hex(4)}"
        self._patience = patience
        self._held = False
        self._taken_by: Holder | None = None
        self._stopping = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock, or raise Locked and say who holds it.

        Before its first release a stack has no namespace and no lock: the engine's lock alone protects it then.
        """
        lease = self._read()
        if (holder := self._find_other(lease)) and not self._has_ended(holder):
            self._await_free(holder)
            lease = self._read()
        if not self._write(lease):
            now = self._leases.read_lease(COMMAND_LOCK)
            if now is None:
                return  # no namespace
            raise self._locked_by(Holder.of(now) or self._me)
        self._held = True
        self._thread = threading.Thread(target=self._keep, name="command lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lock up."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        if not self._held:
            return
        self._held = False
        try:
            lease = self._leases.read_lease(COMMAND_LOCK)
            if lease and lease.spec and lease.spec.holderIdentity == self._identity:
                lease.spec.holderIdentity = ""
                self._leases.write_lease(lease)
        except OpsError as error:
            self._say(f"The command lock was not released; it expires in {SECONDS} s. {error}")

    def require_held(self) -> None:
        """Raise unless this command still holds the lock, checked with the API server."""
        if self._held:
            self._renew()
        if self._taken_by:
            raise Interrupted(
                f"{self._taken_by} took over this stack, because this command did not renew its lock for {SECONDS} s. "
                "This command stopped. `runbook status` shows what runs; when the other one has ended, run it again."
            )

    # -- waiting ---------------------------------------------------------------------------------

    def _await_free(self, holder: Holder) -> None:
        """Wait until the holder renews (then refuse), releases, or has not renewed for SECONDS."""
        deadline = time.monotonic() + self._patience
        self._say(f"This stack is in use: {holder}. Waiting up to {max(SECONDS, self._patience):.0f} s …")
        while alive := self._await_renewal():
            if time.monotonic() >= deadline:
                raise self._locked_by(alive)

    def _await_renewal(self) -> Holder | None:
        """The holder that renewed the lock; None when it is free, or was not renewed for SECONDS."""
        seen: tuple[Any, ...] | None = None
        holder: Holder | None = None
        for lease in self._leases.watch_lease(COMMAND_LOCK, SECONDS):
            holder = self._find_other(lease)
            if holder is None or self._has_ended(holder):
                return None
            spec = lease.spec or LeaseSpec()
            mark = (spec.holderIdentity, spec.renewTime)
            if seen is not None and mark != seen:
                return holder
            seen = mark
        if holder:
            self._say(f"{holder} has not renewed its lock for {SECONDS} s: taking it over.")
        return None

    def _has_ended(self, holder: Holder) -> bool:
        ended = holder.process.is_gone() if holder.process else False
        if ended or self._is_gone(holder):
            self._say(f"{holder} has ended without releasing this stack: taking its lock over.")
            return True
        return False

    def _locked_by(self, holder: Holder) -> Locked:
        return Locked(
            [holder.as_lock()], f"This stack is in use: {holder}. Wait for it to end. This command changed nothing."
        )

    # -- renewing --------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._stopping.wait(_RENEW_SECONDS):
            try:
                self._renew()
            except OpsError:
                # The API server does not answer. Another command may take the lock only when it answers again; the
                # update that runs is protected by the engine's own lock.
                continue
            if self._taken_by:
                self._stop_engine()
                return

    def _renew(self) -> None:
        with self._writing:
            while self._taken_by is None:
                lease = self._leases.read_lease(COMMAND_LOCK)
                if lease is None:
                    return  # the namespace was deleted: nothing is left to protect
                if lease.spec is None or lease.spec.holderIdentity != self._identity:
                    self._taken_by = Holder.of(lease) or Holder("unknown", "unknown", "unknown", "unknown", None)
                    return
                if self._write(lease):
                    return

    def _read(self) -> Lease:
        new = Lease(metadata=ObjectMeta(name=COMMAND_LOCK), spec=LeaseSpec())
        return self._leases.read_lease(COMMAND_LOCK) or new

    def _find_other(self, lease: Lease) -> Holder | None:
        return Holder.of(lease) if lease.spec and lease.spec.holderIdentity != self._identity else None

    def _write(self, lease: Lease) -> bool:
        """Write this holder and the time into the Lease. The API server rejects a stale resourceVersion."""
        spec, meta = lease.spec or LeaseSpec(), lease.metadata or ObjectMeta(name=COMMAND_LOCK)
        now = datetime.now(UTC)
        now = now.replace(microsecond=now.microsecond or 1)  # the API server requires microseconds
        if spec.holderIdentity != self._identity:
            spec.holderIdentity, spec.acquireTime = self._identity, now
            spec.leaseTransitions = (spec.leaseTransitions or 0) + 1
            meta.annotations = {**(meta.annotations or {}), _COMMAND: json.dumps(self._me.to_dict())}
        spec.renewTime, spec.leaseDurationSeconds = now, SECONDS
        lease.spec, lease.metadata = spec, meta
        return self._leases.write_lease(lease) is not None


def read_holder(leases: Leases) -> Mapping[str, Any] | None:
    """Who holds the stack's lock: `user`, `host`, `doing`, `since`; None when it is free."""
    lease = leases.read_lease(COMMAND_LOCK)
    holder = Holder.of(lease) if lease else None
    if holder is None:
        return None
    return {key: value for key, value in holder.to_dict().items() if key != "process"}
