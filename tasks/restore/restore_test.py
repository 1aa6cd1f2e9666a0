"""A restore test: restores the newest backup, checks it, and records the result in the store.

`begin` fetches and restores; then the release migrates and is smoked on the result; `conclude` writes that all of it
passed. A failure of `begin` is recorded at once. A test that ends in between (a failing
migration, a killed pod) cannot record its failure: so `begin` leaves a marker in the store, and the next `begin`
records a test that never concluded.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tasks.backup.manifest import Manifest
from tasks.errors import Interrupted, Refused, TaskError
from tasks.progress import say, step
from tasks.restore import evidence
from tasks.store import Missing, Store

OPEN = "attempts/"
"""Prefix of attempts that have begun and not ended."""
FILE = "attempt.json"
NEVER_CONCLUDED = "never_concluded"


@dataclass
class RestoreTest:
    """What is known so far; its JSON is what `conclude` goes on with."""

    id: str
    backup: str
    began: datetime
    rpo_seconds: float
    release: Mapping[str, Any] | None
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found: versions, rows, integrity."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    places: Sequence[str] = ()
    """Its scratch folder and its database, each with the machine: another test there ends this one."""
    deadline: str | None = None
    """When its pod has ended in any case."""

    @classmethod
    def of(cls, manifest: Manifest, began: datetime, places: Sequence[str], seconds: int) -> RestoreTest:
        return cls(
            places=places,
            deadline=(began + timedelta(seconds=seconds)).isoformat(),
            id=f"{began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
            backup=manifest.id,
            began=began,
            rpo_seconds=round((began - manifest.created_at).total_seconds(), 1),
            release=manifest.release and dataclasses.asdict(manifest.release),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> RestoreTest:
        raw = json.loads(text)
        return cls(**{**raw, "began": datetime.fromisoformat(raw["began"])})

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self) | {"began": self.began.isoformat()}, indent=1) + "\n"

    @property
    def key(self) -> str:
        return f"{OPEN}{self.id}.json"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with step(name):
            yield
        self.steps.append({"name": name, "seconds": round(time.monotonic() - began, 2)})


def begin(
    store: Store, manifest: Manifest, scratch: Path, database: str, seconds: int, work: Callable[[RestoreTest], None]
) -> RestoreTest:
    """Do `work`, which restores into `database` and checks; leave an attempt for `conclude`, or a record of the
    failure. A test takes `seconds` at most."""
    machine = socket.gethostname()
    places = [f"{machine}:{scratch}", f"{machine}:{database}"]
    now = datetime.now(UTC)
    close_abandoned(store, places, now)
    attempt = RestoreTest.of(manifest, now, places, seconds)
    store.put(attempt.key, attempt.to_json().encode())
    (scratch / FILE).unlink(missing_ok=True)
    try:
        work(attempt)
    except Exception as error:
        # Any fault, also one outside the tasks, means that the backup is not proven.
        _record_failure(store, attempt, getattr(error, "code", "internal"), str(error))
        raise
    except (Interrupted, KeyboardInterrupt):
        _record_failure(store, attempt, "interrupted", "the restore test was ended from outside")
        raise
    (scratch / FILE).write_text(attempt.to_json())
    return attempt


def conclude(store: Store, scratch: Path, check: Callable[[RestoreTest], None]) -> evidence.Record:
    """Record that everything after `begin` passed: nothing else may be called here than what follows on it.

    `check` raises if the release did not work on what was restored.
    """
    file = scratch / FILE
    try:
        attempt = RestoreTest.from_json(file.read_text())
    except FileNotFoundError:
        raise Refused(
            "attempt_missing", f"there is no {file}: `restore test-begin` has to succeed first, with the same SCRATCH"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("attempt_missing", f"{file} is not what `restore test-begin` writes: {error}") from error
    record = _recorded(store, attempt)
    if record is None or record.get("code") == NEVER_CONCLUDED:
        try:
            check(attempt)
        except TaskError as error:
            _record_failure(store, attempt, error.code, str(error))
            raise
        now = datetime.now(UTC)
        rto = round((now - attempt.began).total_seconds(), 1)
        checked = sum(one["seconds"] for one in attempt.steps)
        attempt.steps.append({"name": "migrate and smoke", "seconds": round(max(rto - checked, 0), 2)})
        record = evidence.append(store, _content(attempt, now) | {"result": "passed", "rto_seconds": rto})
    store.delete([attempt.key])
    return record


def close_abandoned(store: Store, places: Sequence[str], now: datetime) -> None:
    """Record attempts that never ended as failed: past their deadline, or in a place that is ours now. Others may
    still conclude."""
    for key in [entry.key for entry in store.entries(OPEN)]:
        try:
            attempt = RestoreTest.from_json(store.get(key))
        except Missing:
            continue
        if _recorded(store, attempt) is not None:
            store.delete([key])
        elif set(places) & set(attempt.places) or attempt.deadline is None or attempt.deadline < now.isoformat():
            say(f"warning: the restore test {attempt.id} of {attempt.backup} never concluded; recorded as failed")
            _record_failure(
                store,
                attempt,
                NEVER_CONCLUDED,
                "it began and did not conclude: the pod died, or migrate or smoke failed",
            )


def _recorded(store: Store, attempt: RestoreTest) -> evidence.Record | None:
    """The attempt's record, if the store has it already: the process may have died right after writing it."""
    return next((one for one in evidence.since(store, attempt.began) if one.get("attempt") == attempt.id), None)


def _record_failure(store: Store, attempt: RestoreTest, code: str, message: str) -> None:
    try:
        evidence.append(
            store, _content(attempt, datetime.now(UTC)) | {"result": "failed", "code": code, "reason": message}
        )
        store.delete([attempt.key])
    except TaskError as error:
        # The mark stays, so the next `begin` records it; what is wrong with the backup matters more now.
        say(f"warning: the failure could not be recorded yet: {error}")


def _content(attempt: RestoreTest, at: datetime) -> dict[str, Any]:
    return {
        "attempt": attempt.id,
        "backup": attempt.backup,
        "began": attempt.began.isoformat(),
        "at": at.isoformat(),
        "reason": None,
        "steps": attempt.steps,
        "rto_seconds": None,
        "rpo_seconds": attempt.rpo_seconds,
        "release": attempt.release,
        **attempt.facts,
    }
