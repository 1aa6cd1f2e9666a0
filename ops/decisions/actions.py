"""Actions of post-mortems: which are open, and which are due (HerbisVeritas "Post-Mortem Automatique": `dueDate`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ops.decisions.incident import KIND, Incident, find_due, read_incident
from ops.errors import Refused

DONE = "action-done"
"""Kind of the entry that says so."""


@dataclass(frozen=True)
class Action:
    """What prevents an incident in future."""

    incident: str
    level: int
    number: int
    """Its place in the post-mortem, from 1 on."""
    what: str
    owner: str | None
    due: date
    done: str | None
    """Who did it and when; None while it is open."""

    def days_left(self, today: date) -> int:
        """Negative: it is overdue."""
        return (self.due - today).days

    def describe_due(self, today: date) -> str:
        left = self.days_left(today)
        if left < 0:
            return f"overdue since {self.due.isoformat()}"
        return f"due {'today' if left == 0 else f'in {left} days, {self.due.isoformat()}'}"

    def to_json(self, today: date) -> dict[str, Any]:
        made = {**vars(self), "due": self.due.isoformat()}
        return {**made, "daysLeft": self.days_left(today), "overdue": self.done is None and self.days_left(today) < 0}


def list_actions_of(records: Iterable[Mapping[str, Any]], days: int) -> list[Action]:
    """Of all records, the one that is due first before the others. `days`: for a record that has no date itself."""
    found = [
        action
        for record in records
        if record["kind"] == KIND
        for action in _actions(read_incident(record, record["entries"]), days)
    ]
    return sorted(found, key=lambda one: (one.due, one.incident, one.number))


def _actions(incident: Incident, days: int) -> Iterator[Action]:
    resolution, at = incident.resolution, incident.resolved_at
    if resolution is None or at is None:
        return
    done = {int(one["action"]): f"{one['by']}, {one['at'][:10]}" for one in incident.entries if one["kind"] == DONE}
    for number, one in enumerate(resolution.get("actions") or (), start=1):
        due = find_due(resolution, at, days)
        yield Action(incident.name, incident.level, number, one["what"], one.get("owner"), due, done.get(number))


def find_action(actions: Sequence[Action], incident: str, number: int) -> Action:
    """The action with this number, or Refused with those that there are."""
    own = [one for one in actions if one.incident == incident]
    found = next((one for one in own if one.number == number), None)
    if found is None:
        have = "\n".join(f"  {one.number}  {one.what}" for one in own) or "  (none)"
        raise Refused(f"{incident} has no action {number}:\n{have}\nNothing was changed.")
    if found.done:
        raise Refused(f"Action {number} of {incident} is done already ({found.done}). Nothing was changed.")
    return found


def select_due(actions: Iterable[Action], today: date, days: int) -> list[Action]:
    """Open ones that are overdue, or due within so many days."""
    return [one for one in actions if one.done is None and one.days_left(today) <= days]


def write_reminders(actions: Iterable[Action], today: date) -> dict[int, str]:
    """Level → the message to its channel."""
    lines: dict[int, list[str]] = {}
    for one in actions:
        owner = one.owner or "no owner"
        line = f"{one.incident} #{one.number} {one.what} ({owner}): {one.describe_due(today)}"
        lines.setdefault(one.level, []).append(line)
    end = "When one is done: `runbook incident action-done NUMBER -i NAME`."
    return {level: "\n".join([":date: Actions of post-mortems", *own, end]) for level, own in sorted(lines.items())}
