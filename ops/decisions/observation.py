"""Enhanced mode: what is wrong with a stack by stricter limits than alerts have, and what of it is news."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ops.decisions.health_checks import answers_well
from ops.decisions.incident import Incident
from settings import Monitoring
from settings.incidents import Pace

WATCH, OBSERVED = "watch", "observed"
"""Kinds of entries."""
_NO_ANSWER = (WATCH, OBSERVED, "notify", "start", "escalate")
"""Entries that do not show that someone answers."""
PART = 0.5
"""Part of an alert's limit at which enhanced mode names the value already."""
SPAN = 60
"""Seconds that rates are over; the alerts' windows are longer."""
_NUMBER = re.compile(r"\d+")
_HOLD = 3
"""Observations in a row without a sign after which it is over: one that flickers is one."""


def find_signs(frame: Mapping[str, Any], monitoring: Monitoring | None) -> dict[str, str]:
    """What is wrong in a frame of `runbook status --watch`: an identity that stays the same, and a sentence."""
    found = dict(_of_stack(frame))
    if monitoring:
        found |= _of_requests(frame, monitoring)
    return found


def _of_stack(frame: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for problem in frame["problems"]:
        # A time or a count in its text makes no other problem of it.
        yield f"problem {_NUMBER.sub('#', problem)}", f"not known: {problem}"
    status = frame["status"]
    if status is None:
        return
    for one in frame.get("alerts") or ():
        yield f"alert {one['name']}", f"alert {one['name']} ({one['severity']}) fires"
    for one in status["services"]:
        if not one["settled"]:
            yield f"service {one['name']}", f"{one['name']} has {one['ready']} of {one['wanted']} pods ready"
    if (health := status["health"]) and not answers_well(health["status"]):
        answer = health["status"] or "nothing"
        yield "health", f"the health check answers {answer}: {health['detail']}"
    if command := status["command"]:
        who = f"{command['user']}@{command['host']}"
        yield f"command {command['doing']} {who}", f"`runbook {command['doing']}` of {who} is running"
    if maintenance := frame["maintenance"]:
        yield "maintenance", f"maintenance mode is on ({maintenance['reason']})"
    if status["lockdown"]["state"] == "on":
        yield "lockdown", "there is a lockdown"


def _of_requests(frame: Mapping[str, Any], monitoring: Monitoring) -> Iterator[tuple[str, str]]:
    numbers = frame.get("requests") or {}
    rate, errors, slow = numbers.get("perSecond"), numbers.get("errorPercent"), numbers.get("p95")
    if rate is None or rate * SPAN < monitoring.triggers.least_requests:
        return
    limit = PART * monitoring.critical.error_rate_percent
    if errors is not None and errors >= limit:
        yield "errors", f"{errors:.2f} % of the requests of the last {SPAN} s fail (enhanced limit {limit:g} %)"
    longest = PART * monitoring.triggers.response_milliseconds
    if slow is not None and 1000 * slow >= longest:
        took = f"{1000 * slow:.0f} ms or more (enhanced limit {longest:g} ms)"
        yield "slow", f"5 % of the requests of the last {SPAN} s take {took}"


@dataclass(frozen=True)
class News:
    """What one observation changed, and what is to be sent."""

    begun: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    """What is still wrong, when it is time to say so again."""
    unanswered: str | None = None
    """No one has answered in the level's time."""

    @property
    def text(self) -> str:
        parts = (
            ("begins: ", self.begun),
            ("over: ", self.ended),
            ("still: ", self.repeated),
            ("", (self.unanswered,) if self.unanswered else ()),
        )
        return "; ".join(f"{head}{', '.join(lines)}" for head, lines in parts if lines)


@dataclass(frozen=True)
class Observed:
    """What is known from the observations so far."""

    signs: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is wrong."""
    absent: Mapping[str, int] = field(default_factory=dict[str, int])
    """Observations in a row that did not see it."""
    sent_at: datetime | None = None
    reminded_at: datetime | None = None

    def follow(
        self, signs: Mapping[str, str], incident: Incident, pace: Pace, now: datetime
    ) -> tuple[Observed, News | None]:
        """After another observation. None: nothing is news."""
        begun = {key: text for key, text in signs.items() if key not in self.signs}
        absent = {key: self.absent.get(key, 0) + 1 for key in self.signs if key not in signs}
        ended = {key: self.signs[key] for key, times in absent.items() if times >= _HOLD}
        standing = {key: signs.get(key, text) for key, text in self.signs.items() if key not in ended} | begun
        due = self.sent_at is not None and now - self.sent_at >= timedelta(minutes=pace.repeat_minutes)
        repeated = tuple(text for key, text in standing.items() if key not in begun) if due else ()
        unanswered = find_unanswered(incident, pace, self.reminded_at, now)
        news = News(tuple(begun.values()), tuple(ended.values()), repeated, unanswered)
        after = Observed(
            signs=standing,
            absent={key: times for key, times in absent.items() if key not in ended},
            sent_at=now if news.text or self.sent_at is None else self.sent_at,
            reminded_at=now if unanswered else self.reminded_at,
        )
        return after, news if news.text else None


def find_unanswered(incident: Incident, pace: Pace, reminded_at: datetime | None, now: datetime) -> str | None:
    """That no one has written into the log since the incident was opened or got its level; once in the level's time."""
    escalated = incident.last("escalate")
    since = datetime.fromisoformat(escalated["at"]) if escalated else incident.opened_at
    answers = (one for one in incident.entries if one["kind"] not in _NO_ANSWER)
    if any(datetime.fromisoformat(one["at"]) >= since for one in answers):
        return None
    if now - max(since, reminded_at or since) < timedelta(minutes=pace.respond_minutes):
        return None
    minutes = (now - since) // timedelta(minutes=1)
    return f"no one has answered for {minutes} min (`runbook incident note`)"
