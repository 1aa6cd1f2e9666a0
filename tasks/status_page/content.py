"""What the status page says at one moment. Pure: published facts and a clock in, states and numbers out.

Published is `{"since", "publishedAt", "incidents": […], "planned": […]}`. An incident has `id`, `title`, `startedAt`,
`endedAt` (None while it is open), `periods` (`from`, `until`, `impact`, `components`) and `updates` (`at`, `text`);
planned maintenance has `id`, `from`, `until`, `text`, `components`. All of it was written for customers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

DAYS = 90
IMPACTS = ("operational", "maintenance", "degraded", "partial", "outage")
"""From the least to the most severe."""
UNKNOWN = "unknown"
DOWN = ("partial", "outage")
"""Impacts that count against the uptime."""
UPTIME_RULE = (
    "Uptime is the share of the last 90 days without a major or partial outage of that part. It is computed from the "
    "incidents that we reported, not measured."
)


@dataclass(frozen=True)
class Site:
    """The page's own text, from the settings."""

    title: str
    url: str
    components: Sequence[str]

    @classmethod
    def from_task(cls, given: Mapping[str, Any]) -> Site:
        return cls(given["title"], given["url"], tuple(given["components"]))


@dataclass(frozen=True)
class Update:
    at: datetime
    text: str


@dataclass(frozen=True)
class Shown:
    """An incident as customers read it."""

    identity: str
    title: str
    started: datetime
    ended: datetime | None
    components: Sequence[str]
    updates: Sequence[Update]
    """The newest first."""


@dataclass(frozen=True)
class Planned:
    identity: str
    begin: datetime
    end: datetime
    text: str
    components: Sequence[str]


@dataclass(frozen=True)
class Part:
    """One component."""

    name: str
    state: str
    uptime: float | None
    """Share of the last 90 days; None where nothing was published."""
    days: Sequence[tuple[date, str]]
    """The last 90 days, each with its most severe impact, or `unknown`."""


@dataclass(frozen=True)
class Content:
    """The page at one moment."""

    site: Site
    written: datetime
    state: str
    since: datetime | None
    parts: Sequence[Part]
    open: Sequence[Shown]
    past: Sequence[Shown]
    planned: Sequence[Planned]


@dataclass(frozen=True)
class _Period:
    begin: datetime
    end: datetime | None
    impact: str
    components: Sequence[str]

    def overlaps(self, begin: datetime, end: datetime) -> bool:
        return self.begin < end and (self.end is None or self.end > begin)


def read_content(site: Site, published: Mapping[str, Any] | None, now: datetime) -> Content:
    """What the page says now. Without anything published, every state is unknown."""
    now = now.astimezone(UTC).replace(microsecond=0)
    if published is None:
        parts = [Part(name, UNKNOWN, None, ()) for name in site.components]
        return Content(site, now, UNKNOWN, None, parts, (), (), ())
    since = _time(published["since"])
    window = max(since, now - timedelta(days=DAYS))
    records = [one for one in published["incidents"] if one["endedAt"] is None or _time(one["endedAt"]) > window]
    periods = [_period(each) for one in records for each in one["periods"]]
    planned = [one for one in map(_planned, published["planned"]) if one.end > now]
    under = {name for one in planned if one.begin <= now for name in one.components}
    parts = [_part(name, periods, since, now, under=name in under) for name in site.components]
    shown = sorted(map(_shown, records), key=lambda one: one.started, reverse=True)
    open_, past = [one for one in shown if one.ended is None], [one for one in shown if one.ended is not None]
    state = worst(part.state for part in parts)
    return Content(site, now, state, since, parts, open_, past, sorted(planned, key=lambda one: one.begin))


def worst(impacts: Iterable[str]) -> str:
    """The most severe one."""
    return max(impacts, key=IMPACTS.index, default="operational")


def _part(name: str, periods: Sequence[_Period], since: datetime, now: datetime, *, under: bool) -> Part:
    mine = [one for one in periods if name in one.components]
    open_ = [one.impact for one in mine if one.end is None]
    state = worst([*open_, *(["maintenance"] if under else [])])
    days = [(day, _of_day(day, mine, since, now)) for day in _last_days(now)]
    return Part(name, state, _uptime(mine, max(since, now - timedelta(days=DAYS)), now), days)


def _uptime(periods: Sequence[_Period], begin: datetime, now: datetime) -> float | None:
    """Share without an outage; overlapping ones count once."""
    whole = (now - begin).total_seconds()
    if whole <= 0:
        return None
    down, reached = 0.0, begin
    for one in sorted((one for one in periods if one.impact in DOWN), key=lambda one: one.begin):
        first, last = max(one.begin, reached), min(one.end or now, now)
        if last > first:
            down += (last - first).total_seconds()
            reached = last
    return 1 - down / whole


def _last_days(now: datetime) -> list[date]:
    return [now.date() - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]


def _of_day(day: date, periods: Sequence[_Period], since: datetime, now: datetime) -> str:
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = min(begin + timedelta(days=1), now)
    if end <= since:
        return UNKNOWN
    return worst(one.impact for one in periods if one.overlaps(begin, end))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _period(given: Mapping[str, Any]) -> _Period:
    end = given["until"]
    return _Period(_time(given["from"]), _time(end) if end else None, given["impact"], given["components"])


def _planned(given: Mapping[str, Any]) -> Planned:
    return Planned(given["id"], _time(given["from"]), _time(given["until"]), given["text"], given["components"])


def _shown(given: Mapping[str, Any]) -> Shown:
    updates = sorted(((_time(one["at"]), one["text"]) for one in given["updates"]), reverse=True)
    end = given["endedAt"]
    named = dict.fromkeys(name for one in given["periods"] for name in one["components"])
    return Shown(
        given["id"],
        given["title"],
        _time(given["startedAt"]),
        _time(end) if end else None,
        tuple(named),
        [Update(at, text) for at, text in updates],
    )
