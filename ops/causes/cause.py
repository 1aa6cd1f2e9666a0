"""Why an object failed, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def describe_failure(failed: Sequence[str], causes: Sequence[Cause]) -> str:
    """What failed, for stack file, history and records: nothing that a command, pod or program printed."""
    if causes:
        first = causes[0]
        code = f"exit code {first.exit_code}" if first.exit_code is not None else first.reason
        return f"{first.object} failed{f': {code}' if code else ''}"
    return f"{' and '.join(failed[:2]) or 'the program'} failed"


@dataclass(frozen=True)
class Cause:
    """One failed object, and what the cluster reports about it. Contains no secret."""

    object: str
    """Kind and name."""
    line: str
    """What happened, on one line."""
    reason: str | None = None
    """The reason in the object's own status (`BackoffLimitExceeded`)."""
    pod: str | None = None
    container: str | None = None
    exit_code: int | None = None
    notes: Sequence[str] = ()
    """Further facts."""
    log: Sequence[str] = field(default_factory=list)
    """The last lines of the container's log."""
    events: Sequence[str] = field(default_factory=list)
    """The latest warnings about the object and its pod."""
    outside: bool = False
    """The cluster, or another session of the database, is the reason: what the pods run is not to blame."""

    def __str__(self) -> str:
        log = ["  last lines of the log:", *(f"    | {line}" for line in self.log)] if self.log else []
        events = ["  events:", *(f"    {event}" for event in self.events)] if self.events else []
        return "\n".join([self.line, *(f"  {note}" for note in self.notes), *log, *events])

    def to_dict(self) -> Mapping[str, Any]:
        return {
            "object": self.object,
            "line": self.line,
            "reason": self.reason,
            "pod": self.pod,
            "container": self.container,
            "exitCode": self.exit_code,
            "notes": [*self.notes],
            "log": [*self.log],
            "events": [*self.events],
        }
