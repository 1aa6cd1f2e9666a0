"""An incident from its log, and its post-mortem (HerbisVeritas "Incident Response", "Post-Mortem Automatique")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from settings.incidents import POST_MORTEM_LEVELS

KIND = "reported"
"""Kind of the records that people open; the controller's and those of commands have others."""
_NUMBER = re.compile(rf"incident-{KIND}-(\d+)")
RELATED_BEFORE = timedelta(hours=1)
"""Records, alerts and updates of this time before its begin belong to an incident too: they may be its cause."""
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Incident:
    """What the entries of a record add up to: the last one that says something wins."""

    name: str
    opened_at: datetime
    by: str
    title: str
    level: int
    entries: Sequence[Mapping[str, Any]]
    """In the order of time: `at`, `by`, `kind`, `text` and what else the kind has."""

    @property
    def resolution(self) -> Mapping[str, Any] | None:
        return next((one for one in reversed(self.entries) if one["kind"] == "resolve"), None)

    @property
    def resolved_at(self) -> datetime | None:
        return datetime.fromisoformat(self.resolution["at"]) if self.resolution else None

    def last(self, kind: str) -> Mapping[str, Any] | None:
        return next((one for one in reversed(self.entries) if one["kind"] == kind), None)

    def to_json(self) -> dict[str, Any]:
        resolved = self.resolved_at
        return {
            "name": self.name,
            "title": self.title,
            "level": self.level,
            "by": self.by,
            "openedAt": self.opened_at.isoformat(timespec="seconds"),
            "resolvedAt": resolved.isoformat(timespec="seconds") if resolved else None,
            "entries": [dict(one) for one in self.entries],
        }


def read_incident(record: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Incident:
    """From the record and the entries of its log, in any order."""
    ordered = sorted(entries, key=lambda one: (one["at"], one["kind"]))
    levels = [one["level"] for one in ordered if one.get("level")]
    return Incident(
        name=record["name"],
        opened_at=datetime.fromisoformat(record["openedAt"]),
        by=record["by"],
        title=record.get("title") or record.get("reason") or record["kind"],
        level=int(levels[-1] if levels else record.get("level") or 4),
        entries=ordered,
    )


def next_name(names: Iterable[str]) -> str:
    """The name of the next incident. Two people who open one at the same time choose the same, and one is refused."""
    numbers = [int(found[1]) for name in names if (found := _NUMBER.fullmatch(name))]
    return f"incident-{KIND}-{max(numbers, default=0) + 1:04}"


@dataclass(frozen=True)
class Moment:
    """Something that happened."""

    at: datetime
    source: str
    what: str


@dataclass(frozen=True)
class Facts:
    """What is known besides the log; each None is named as unknown."""

    until: datetime
    moments: Sequence[Moment] = ()
    """Updates of the stack, other records, alerts and warnings of Kubernetes."""
    failed_requests: float | None = None
    requests: float | None = None
    revenue: float | None = None
    """Revenue during the incident …"""
    revenue_before: float | None = None
    """… and in as long a time before it."""
    revenue_unit: str = ""
    missing: Sequence[str] = field(default_factory=tuple)
    """What could not be read, and why."""


def needs_post_mortem(incident: Incident) -> bool:
    return incident.level in POST_MORTEM_LEVELS


def write_post_mortem(incident: Incident, facts: Facts, action_days: int) -> str:
    """Markdown: impact with how it was computed, timeline, cause, resolution, actions, and what is unknown."""
    resolution = incident.resolution or {}
    unknown: list[str] = list(facts.missing)
    lines = [
        f"# Post-mortem: {' '.join(incident.title.split())}",
        "",
        f"Incident `{incident.name}`, level {incident.level}, opened by {incident.by}. Written from its log, the "
        "history of the stack, alerts and events.",
        "",
        "## Impact",
        "",
        "| What | Value | How it was computed |",
        "|---|---|---|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in list_impact(incident, facts, unknown)),
        "",
        "## Timeline (UTC)",
        "",
        *_timeline(incident, facts),
        "",
        "## Root cause",
        "",
        _or_unknown(resolution.get("cause"), "the root cause: `runbook incident resolve --cause`", unknown),
        "",
        "## Resolution",
        "",
        _or_unknown(resolution.get("text"), "what resolved it", unknown),
        "",
        "## Actions",
        "",
        *_actions(list_actions(incident, facts, action_days, unknown)),
        "",
        "## Unknown",
        "",
        *([f"- {one}" for one in unknown] or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"


def list_impact(incident: Incident, facts: Facts, unknown: list[str]) -> Iterator[tuple[str, str, str]]:
    """What, how much, and how it was computed; what is not known is added to `unknown`."""
    end = incident.resolved_at or facts.until
    yield "Duration", describe_duration(end - incident.opened_at), "from the record's opening to its resolution"
    users = next((one["users"] for one in reversed(incident.entries) if one.get("users") is not None), None)
    if users is None:
        unknown.append("how many users were affected: `runbook incident assess --users N`")
    yield "Users affected", _UNKNOWN if users is None else str(users), "as assessed"
    if facts.failed_requests is None:
        unknown.append("failed requests: there are no metrics of that time")
        yield "Failed requests", _UNKNOWN, "answers with status 5xx, from the metrics"
    else:
        of = "" if facts.requests is None else f" of {facts.requests:.0f}"
        yield "Failed requests", f"{facts.failed_requests:.0f}{of}", "answers with status 5xx, from the metrics"
    how = "metric `revenue`, against as long a time before the incident"
    if facts.revenue is None or facts.revenue_before is None:
        unknown.append("the effect on revenue: there is no metric `revenue` in runbook:operations.metrics, or no data")
        yield "Revenue", _UNKNOWN, how
    else:
        change = facts.revenue - facts.revenue_before
        unit = f" {facts.revenue_unit}" if facts.revenue_unit else ""
        yield "Revenue", f"{facts.revenue:.2f}{unit} ({change:+.2f})", how


def list_moments(incident: Incident, facts: Facts) -> list[Moment]:
    """All that happened, in order."""
    own = [
        Moment(datetime.fromisoformat(one["at"]), "log", f"{one['kind']} by {one['by']}: {one['text']}".rstrip(": "))
        for one in incident.entries
    ]
    return sorted([*own, *facts.moments], key=lambda one: one.at)


def _timeline(incident: Incident, facts: Facts) -> Iterator[str]:
    for one in list_moments(incident, facts):
        yield f"- {one.at:%Y-%m-%d %H:%M:%S} **{one.source}** {' '.join(one.what.split())}"


def _or_unknown(text: str | None, what: str, unknown: list[str]) -> str:
    if text:
        return text
    unknown.append(what)
    return "Unknown."


def list_actions(incident: Incident, facts: Facts, days: int, unknown: list[str]) -> list[tuple[str, str, str]]:
    """What, its owner, and when it is due."""
    actions: Sequence[Mapping[str, Any]] = (incident.resolution or {}).get("actions") or ()
    if not actions:
        unknown.append("actions: `runbook incident resolve --action 'what=owner'`")
    unknown += [f"the owner of “{one['what']}”" for one in actions if not one.get("owner")]
    due = find_due(incident.resolution or {}, incident.resolved_at or facts.until, days)
    return [(one["what"], one.get("owner") or _UNKNOWN, due.isoformat()) for one in actions]


def find_due(resolution: Mapping[str, Any], at: datetime, days: int) -> date:
    """When actions are due: as the resolution says, else so many days after it."""
    if given := resolution.get("due"):
        return date.fromisoformat(given)
    return at.date() + timedelta(days=days)


def _actions(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    if not rows:
        yield "None written down."
        return
    yield "| Action | Owner | Due |"
    yield "|---|---|---|"
    yield from (f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    """On one line, with no end of the cell in it."""
    return " ".join(text.split()).replace("|", "\\|")


def describe_duration(length: timedelta) -> str:
    """Such as `1 h 10 min`."""
    minutes, seconds = divmod(round(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{seconds} s" if not hours else ""]
    return " ".join(filter(None, parts))
