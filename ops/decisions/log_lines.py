"""Log lines of an application: JSON objects as winston, pino and others write them, and plain text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.errors import Refused

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
_NAMES = {
    "silly": 0, "trace": 0, "debug": 1, "verbose": 1, "http": 2, "info": 2, "notice": 2, "log": 2,
    "warn": 3, "warning": 3, "error": 4, "err": 4, "severe": 4,
    "crit": 5, "critical": 5, "alert": 5, "emerg": 5, "emergency": 5, "fatal": 5, "panic": 5,
}  # fmt: skip
_IN_TEXT = re.compile(rf"\b({'|'.join(sorted(_NAMES, key=len, reverse=True))})\b", re.IGNORECASE)
_HEAD = 100
"""Characters of a plain line in which its level is looked for."""
_FIELD = re.compile(r"([A-Za-z_][\w.-]*)(=|!=|>=|<=|>|<)(.+)", re.DOTALL)
_LEVEL = ("level", "severity", "lvl", "levelname", "log.level", "@l")
_MESSAGE = ("message", "msg", "short_message", "@m")
_SYSLOG = (5, 5, 5, 4, 3, 2, 2, 1)
"""Severities 0 to 7 of syslog, which GELF has → their places in LEVELS."""
_TIMES = ("timestamp", "time", "ts", "@timestamp")


@dataclass(frozen=True)
class Line:
    """A line of a container's log, its secrets masked."""

    time: str
    """When the container runtime received it (RFC 3339)."""
    pod: str
    container: str
    text: str
    record: Mapping[str, Any] | None
    """Its fields, where it is a JSON object."""
    level: int | None
    """Its place in LEVELS; None where it says nothing about it."""

    def to_json(self) -> dict[str, Any]:
        what = {"fields": dict(self.record)} if self.record is not None else {"text": self.text}
        level = None if self.level is None else LEVELS[self.level]
        return {"time": self.time, "pod": self.pod, "container": self.container, "level": level, **what}


def parse_line(
    time: str, pod: str, container: str, text: str, before: int | None = None, clean: Callable[[str], str] = str
) -> Line:
    """A line as it is in the log, masked. `before` is the level of the line before, which an indented line (of a stack
    trace) shares; `clean` masks what escapes of JSON hid: parts of secrets, and what moves a terminal's cursor."""
    record = _record(text)
    if record is not None:
        record = _cleaned(record, clean if "\\" in text else str)
    level = _level_of(record) if record is not None else _level_in(text, before)
    return Line(time, pod, container, text, record, level)


def _record(text: str) -> Mapping[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Without what cannot be written again: halves of a character, and numbers that JSON has not."""
    if isinstance(value, str):
        return clean(value.encode(errors="replace").decode())
    if isinstance(value, dict):
        return {_cleaned(key, clean): _cleaned(item, clean) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _level_of(record: Mapping[str, Any]) -> int | None:
    value = next((record[key] for key in _LEVEL if key in record), None)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if 0 <= value < len(_SYSLOG):
            return _SYSLOG[int(value)]
        return min(max(int(value) // 10 - 1, 0), len(LEVELS) - 1)  # pino: 10 is trace, 60 fatal
    return _NAMES.get(str(value).lower())


def _level_in(text: str, before: int | None) -> int | None:
    if text[:1].isspace():
        return before
    found = _IN_TEXT.search(text[:_HEAD])
    return _NAMES[found[1].lower()] if found else None


def parse_level(name: str) -> int:
    """A level by any of its names, or Refused."""
    if (found := _NAMES.get(name.lower())) is None:
        raise Refused(f"--level {name!r}: write one of {', '.join(LEVELS)}.")
    return found


def at_least(line: Line, level: int | None) -> bool:
    """Whether a line is of this level or a more severe one. A line without a level is of none."""
    return level is None or (line.level is not None and line.level >= level)


def matches(line: Line, queries: Sequence[str]) -> bool:
    """Whether all queries match: `field=value` (also !=, >, >=, <, <=) compares a field of a JSON line; anything else
    is a text that the line contains, in upper or lower case."""
    return all(_matches(line, query) for query in queries)


def _matches(line: Line, query: str) -> bool:
    found = _FIELD.fullmatch(query)
    if found and line.record is not None:
        value = field(line.record, found[1])
        if value is not None:
            return _compare(value, found[2], found[3])
        if found[2] == "!=":
            return True
    return query.lower() in line.text.lower()


def _compare(value: Any, operator: str, wanted: str) -> bool:
    text = value if isinstance(value, str) else json.dumps(value)
    if operator in ("=", "!="):
        return (text.lower() == wanted.lower()) == (operator == "=")
    try:
        left, right = float(text), float(wanted)
    except ValueError:
        return False
    return {">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[operator]


def field(record: Mapping[str, Any], name: str) -> Any:
    """A field by its name; `a.b` is also the field `b` of the object in `a`."""
    if name in record:
        return record[name]
    first, _, rest = name.partition(".")
    inner = record.get(first)
    return field(inner, rest) if rest and isinstance(inner, Mapping) else None


def describe(line: Line) -> str:
    """The line for people: its message, then its other fields."""
    if line.record is None:
        return line.text
    message = next((str(line.record[key]) for key in _MESSAGE if key in line.record), "")
    left_out = {*_LEVEL, *_MESSAGE, *_TIMES}
    rest = [f"{key}={_shown(value)}" for key, value in line.record.items() if key not in left_out]
    return " ".join(filter(None, (message, *rest)))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and (" " in text or not text) else text


@dataclass
class Source:
    """Requests of one client that were refused."""

    source: str | None
    """None: its lines name no client."""
    statuses: dict[int, int]
    routes: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    def to_json(self) -> dict[str, Any]:
        routes = sorted(self.routes.items(), key=lambda item: -item[1])[:3]
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        return {"source": self.source, "statuses": statuses, "total": self.total, "routes": dict(routes)}


class RefusedRequests:
    """Counts requests with one of these statuses by client, from log lines."""

    def __init__(self, statuses: Sequence[int], names: Mapping[str, str]) -> None:
        """`names`: what the fields `status`, `source` and `route` are called."""
        self._wanted, self._names = frozenset(statuses), names
        self.requests = 0
        """Lines about a request."""
        self.sources: dict[str | None, Source] = {}

    def count(self, line: Line) -> None:
        if line.record is None:
            return
        status = field(line.record, self._names["status"])
        if isinstance(status, str) and status.isdigit():
            status = int(status)
        if not isinstance(status, int) or isinstance(status, bool):
            return
        self.requests += 1
        if status not in self._wanted:
            return
        source, route = (field(line.record, self._names[key]) for key in ("source", "route"))
        name = str(source) if source not in (None, "") else None
        found = self.sources.setdefault(name, Source(name, {}, {}))
        found.statuses[status] = found.statuses.get(status, 0) + 1
        found.routes[str(route or "unknown")] = found.routes.get(str(route or "unknown"), 0) + 1

    def worst(self, most: int) -> list[Source]:
        return sorted(self.sources.values(), key=lambda one: -one.total)[:most]
