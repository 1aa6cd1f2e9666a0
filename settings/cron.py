"""Cron schedules as Kubernetes takes them: are they well-formed, how far apart do they run, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

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


@dataclass(frozen=True)
class _Schedule:
    times: Sequence[time]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool
    """Cron's own rule: where both kinds of day are restricted, either will do."""

    def runs_on(self, day: date) -> bool:
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either else of_month and of_week)

    def runs(self, day: date, zone: ZoneInfo) -> list[datetime]:
        """The day's runs in UTC: one for each time on the clock.

        A time that the clock shows twice is its first; one that it skips comes as much later as the clock jumps.
        """
        if not self.runs_on(day):
            return []
        return [datetime.combine(day, at, zone).astimezone(UTC) for at in self.times]


@cache
def _schedule(text: str) -> _Schedule:
    words = _MACROS.get(text.strip(), text).split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{len(words)} fields instead of five (minute hour day month weekday)")
    minutes, hours, days, months, weekdays = (f.values(word) for f, word in zip(_FIELDS, words, strict=True))
    times = [time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes)]
    return _Schedule(times, days, months, weekdays, either=not _every(words[2]) and not _every(words[4]))


def longest_gap(schedule: str) -> timedelta:
    """The longest time between two runs; a ValueError says what is wrong with the schedule."""
    return max(_gaps(schedule))


def longest_gap_in(schedule: str, zone: str) -> timedelta:
    """The longest time between two runs of a CronJob on the clock of a zone.

    Kubernetes leaves out a run at a time that the clock skips: 02:30 on the last Sunday of March in Europe/Paris.
    """
    wanted, clock, longest = _schedule(schedule), ZoneInfo(zone), longest_gap(schedule)
    around = longest.days + 2
    days = (_FIRST + timedelta(days=offset) for offset in range(2 * 366))
    for changed in (day for day in days if _offset(day, clock) != _offset(day + timedelta(days=1), clock)):
        near = (changed + timedelta(days=offset) for offset in range(-around, around + 1))
        runs = [
            moment
            for day in near
            if wanted.runs_on(day)
            for at in wanted.times
            if (moment := datetime.combine(day, at, clock).astimezone(UTC)).astimezone(clock).time() == at
        ]
        longest = max([longest, *(later - earlier for earlier, later in pairwise(sorted(runs)))])
    return longest


def _offset(day: date, clock: ZoneInfo) -> timedelta | None:
    return datetime.combine(day, time(), clock).utcoffset()


def shortest_gap(schedule: str) -> timedelta:
    """The shortest time between two runs."""
    return min(_gaps(schedule))


@cache
def _gaps(schedule: str) -> frozenset[timedelta]:
    """Every time there is between two runs, as if no clock were ever put forward or back."""
    wanted = _schedule(schedule)
    running = [day for offset in range(_SPAN) if wanted.runs_on(day := _FIRST + timedelta(days=offset))]
    if len(running) < 2:
        raise ValueError("it never runs: no month has such a day")
    times = [timedelta(hours=at.hour, minutes=at.minute) for at in wanted.times]
    within = {later - earlier for earlier, later in pairwise(times)}
    return frozenset(within | {later - earlier + times[0] - times[-1] for earlier, later in pairwise(running)})


def next_run(schedule: str, after: datetime, zone: str) -> datetime:
    """The first run later than `after`, on the clock of `zone`."""
    return _search(schedule, after, zone, step=1)


def next_cron_job_run(schedule: str, after: datetime, zone: str) -> datetime:
    """The first run of a CronJob later than `after`: Kubernetes leaves out a time that the clock skips."""
    wanted, at = _schedule(schedule), after
    while True:
        at = next_run(schedule, at, zone)
        # What a clock put forward delays shows another time than the schedule's. Back and forth by UTC, because a
        # datetime of a skipped time keeps it.
        if at.astimezone(UTC).astimezone(ZoneInfo(zone)).time() in wanted.times:
            return at


def last_run(schedule: str, before: datetime, zone: str) -> datetime:
    """The last run not later than `before`: a run is one from its very second on."""
    return _search(schedule, before, zone, step=-1)


def _search(schedule: str, moment: datetime, zone: str, *, step: int) -> datetime:
    wanted, clock = _schedule(schedule), ZoneInfo(zone)
    # In UTC: with a zone that both share, datetimes are compared by what the clock shows.
    at = moment.astimezone(UTC)
    # A run that a clock put forward at midnight delays belongs to the day before.
    day = at.astimezone(clock).date() - timedelta(days=step)
    for _ in range(_SPAN):
        found = [run for run in wanted.runs(day, clock) if (run > at if step > 0 else run <= at)]
        if found:
            return (min(found) if step > 0 else max(found)).astimezone(clock)
        day += timedelta(days=step)
    raise ValueError("it never runs: no month has such a day")
