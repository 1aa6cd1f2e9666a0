"""Metrics of the rotation of secrets, from the file that ROTATION_STATUS names: a list, one entry per secret.

    {"secret": "JWT_SECRET", "kind": "key", "phase": "retired", "period": 3, "generation": 0,
     "rotated_at": "2026-11-15T00:00:04Z", "max_age_seconds": 1468800, "overlap_until": null,
     "failure": null, "emergency_at": null}

Times are 0 for what never happened, as with backups. Of a file that cannot be read one metric is left, which says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from tasks.environment import Environment
from tasks.progress import say


@dataclass(frozen=True, kw_only=True)
class Status:
    secret: str
    phase: str
    rotated_at: float
    max_age_seconds: float | None
    """None for a secret that is never rotated."""
    overlap_until: float
    failed: bool
    emergency_at: float

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Status:
        return cls(
            secret=str(entry["secret"]),
            phase=str(entry["phase"]),
            rotated_at=_seconds(entry["rotated_at"]),
            max_age_seconds=None if (most := entry["max_age_seconds"]) is None else float(most),
            overlap_until=_seconds(entry["overlap_until"]),
            failed=entry["failure"] is not None,
            emergency_at=_seconds(entry["emergency_at"]),
        )


def rotation(environment: Environment) -> Iterator[Metric]:
    """Nothing if ROTATION_STATUS is not set."""
    file = environment.text("ROTATION_STATUS")
    if file is None:
        return
    try:
        known = [Status.of(entry) for entry in json.loads(Path(file).read_bytes())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"warning: ROTATION_STATUS={file}: {type(error).__name__}: {error}")
        known = None
    help_ = "1 if what ROTATION_STATUS names could be read the last time."
    yield GaugeMetricFamily("runbook_rotation_status_readable", help_, float(known is not None))

    def each(name: str, help_: str, value: Callable[[Status], float | None]) -> Metric:
        made = GaugeMetricFamily(name, help_, labels=["secret"])
        for one in known or ():
            if (number := value(one)) is not None:
                made.add_metric([one.secret], number)
        return made

    yield each(
        "runbook_secret_rotated_timestamp_seconds",
        "When the value in use came to be; 0 if it is still the first.",
        lambda one: one.rotated_at,
    )
    help_ = "How old it may be; of a secret that is never rotated there is none."
    yield each("runbook_secret_max_age_seconds", help_, lambda one: one.max_age_seconds)
    yield each(
        "runbook_secret_overlap_until_timestamp_seconds",
        "Until when the value before it is accepted as well; 0 if it is not.",
        lambda one: one.overlap_until,
    )
    yield each(
        "runbook_secret_verification_failed",
        "1 if the last rotation went back to the value before it.",
        lambda one: float(one.failed),
    )
    yield each(
        "runbook_secret_emergency_timestamp_seconds",
        "When it was replaced in an emergency; 0 if it was not.",
        lambda one: one.emergency_at,
    )
    help_ = "1 for the phase that its rotation is in."
    phases = GaugeMetricFamily("runbook_secret_phase", help_, labels=["secret", "phase"])
    for one in known or ():
        phases.add_metric([one.secret, one.phase], 1.0)
    yield phases


def _seconds(at: str | None) -> float:
    if at is None:
        return 0.0
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        raise ValueError(f"{at} has no time zone; write for example 2026-11-15T00:00:04Z")
    return moment.timestamp()
