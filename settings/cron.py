"""Cron schedules as Kubernetes takes them: are they well-formed, and how far apart do they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIRST, _SPAN = date(2024, 1, 1), 8 * 366
"""Long enough for 29 February to come twice."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: Sequence[str] = ()

    def values(self, text: str) -> frozenset[int]:
        found: set[int] = set()
        for part in text.split(","):
            span, _, step = part.partition("/")
            first, dash, last = span.partition("-")
            if first in ("*", "?"):
                if dash:
                    raise ValueError(f"{self.name}: {part!r} is not a value, a range or a step")
                low, high = self.low, self.high
            else:
                low = self._number(first, part)
                # A lone value with a step runs from there to the end.
                high = self._number(last, part) if dash else (self.high if step else low)
            if "/" in part and not (step.isdigit() and int(step) > 0):
                raise ValueError(f"{self.name}: the step in {part!r} is not a number above 0")
            if low > high:
                raise ValueError(f"{self.name}: {part!r} runs backwards")
            found |= set(range(low, high + 1, int(step or 1)))
        return frozenset(found)

    def _number(self, text: str, part: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.low
        if not text.isdigit() or not self.low <= int(text) <= self.high:
            raise ValueError(f"{self.name}: {part!r} is outside {self.low}-{self.high}")
        return int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of the week", 0, 6, _DAYS),
)


def _every(field: str) -> bool:
    return any(part.removesuffix("/1") in ("*", "?") for part in field.split(","))


def longest_gap(schedule: str) -> timedelta:
    """The longest time between two runs; a ValueError says what is wrong with the schedule."""
    words = _MACROS.get(schedule.strip(), schedule).split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{len(words)} fields instead of five (minute hour day month weekday)")
    minutes, hours, days, months, weekdays = (f.values(word) for f, word in zip(_FIELDS, words, strict=True))
    # Cron's own rule: where both kinds of day are restricted, either will do.
    either = not _every(words[2]) and not _every(words[4])

    def runs_on(day: date) -> bool:
        of_month, of_week = day.day in days, day.isoweekday() % 7 in weekdays
        return day.month in months and (of_month or of_week if either else of_month and of_week)

    running = [day for offset in range(_SPAN) if runs_on(day := _FIRST + timedelta(days=offset))]
    if len(running) < 2:
        raise ValueError("it never runs: no month has such a day")
    times = sorted(60 * hour + minute for hour in hours for minute in minutes)
    within = max((later - earlier for earlier, later in pairwise(times)), default=0)
    overnight = max((later - earlier).days for earlier, later in pairwise(running))
    return timedelta(minutes=max(within, overnight * 1440 + times[0] - times[-1]))
