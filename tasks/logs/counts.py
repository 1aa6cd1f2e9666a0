"""Counts lines by event and level. No text of a line is stored."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tasks.environment import Environment
from tasks.errors import Refused

KEPT_SECONDS = 300
"""A pod that is gone keeps its numbers until Prometheus has certainly read the last."""
_LEVELS = (
    *("emerg", "alert", "crit", "critical", "fatal", "error", "warn", "warning"),
    *("notice", "info", "http", "verbose", "debug", "trace", "silly"),
)
_MATCHED_CHARACTERS = 4096
SOURCE_GROUPS = 32
"""Groups of clients, by a hash of their address."""


@dataclass(frozen=True)
class Event:
    """Which lines report it."""

    field: str
    pattern: re.Pattern[str]
    source: str | None = None
    """Field with the client's address."""

    def matches(self, record: Mapping[str, Any]) -> bool:
        value = _value(record, self.field)
        if isinstance(value, bool | int | float):
            value = json.dumps(value)
        return isinstance(value, str) and self.pattern.search(value[:_MATCHED_CHARACTERS]) is not None

    def source_of(self, record: Mapping[str, Any]) -> str:
        """The client's group: a label for each address would grow without end, and name people."""
        return _group(_value(record, self.source)) if self.source else ""

    @property
    def sources(self) -> Sequence[str]:
        """Every group, so that its counter begins at 0."""
        return [str(number) for number in range(SOURCE_GROUPS)] if self.source else [""]


def events_of(environment: Environment) -> dict[str, Event]:
    """LOGS_EVENTS, parsed."""
    example = '{"sql_injection": {"field": "event", "pattern": "^sql_injection$"}}'
    text = environment.required("LOGS_EVENTS", f"'{example}'")
    try:
        return {
            str(name): Event(one["field"], re.compile(one["pattern"]), one.get("source"))
            for name, one in json.loads(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, re.error) as error:
        why = f"LOGS_EVENTS has to be an object like {example}; {type(error).__name__}: {error}"
        raise Refused("environment_invalid", why) from None


class Counts:
    """Numbers of every pod; one thread reads while others count."""

    def __init__(self, events: Mapping[str, Event], clock: Callable[[], float] = time.time) -> None:
        self._events = events
        self._clock = clock
        self._lock = Lock()
        self._events_seen: Counter[tuple[str, str, str]] = Counter()
        self._lines: Counter[tuple[str, str]] = Counter()
        self._read: dict[str, float] = {}
        """When a line of the pod was read."""
        self._serving: dict[str, float] = {}
        """Since when the pod serves."""
        self._gone: dict[str, float] = {}
        self._up: bool | None = None

    def set_watching(self, up: bool) -> None:
        """Whether the watch on the pods works."""
        with self._lock:
            self._up = up

    def add(self, pod: str, *, ready: bool) -> None:
        """Start its counters at 0, so that the first event is an increase."""
        with self._lock:
            self._gone.pop(pod, None)
            for name, event in self._events.items():
                for source in event.sources:
                    self._events_seen.setdefault((name, pod, source), 0)
            if not ready:
                self._serving.pop(pod, None)
            else:
                self._serving.setdefault(pod, self._clock())

    def remove(self, pod: str) -> None:
        with self._lock:
            self._serving.pop(pod, None)
            self._gone.setdefault(pod, self._clock())

    def line(self, pod: str, line: bytes | None) -> None:
        """One line of its log; None for one that is too long to be read."""
        level, record = _classify(line)
        matching = [(name, event.source_of(record)) for name, event in self._events.items() if event.matches(record)]
        with self._lock:
            self._lines[pod, level] += 1
            self._read[pod] = self._clock()
            for name, source in matching:
                self._events_seen[name, pod, source] += 1

    @property
    def ready(self) -> bool:
        """False before the first list of pods."""
        return self._up is not None

    def collect(self) -> Sequence[Metric]:
        if not self.ready:
            return []
        watching = GaugeMetricFamily("runbook_log_watch_up", "1 while the watch on the pods works.")
        seen = CounterMetricFamily("runbook_log_events", "Lines that report a security event.")
        lines = CounterMetricFamily(
            "runbook_log_lines", "Lines that were read, by what they are.", labels=["pod", "level"]
        )
        read = GaugeMetricFamily(
            "runbook_log_read_timestamp_seconds",
            "When a line of a pod that serves was read, or since when it serves.",
            labels=["pod"],
        )
        with self._lock:
            self._forget()
            watching.add_metric([], float(self._up or 0))
            for key, count in sorted(self._events_seen.items()):
                seen.add_sample("runbook_log_events_total", _labels(*key), count)
            for key, count in sorted(self._lines.items()):
                lines.add_metric(key, count)
            for pod, since in sorted(self._serving.items()):
                read.add_metric([pod], max(since, self._read.get(pod, 0.0)))
        return [watching, seen, lines, read]

    def _forget(self) -> None:
        over = {pod for pod, since in self._gone.items() if self._clock() - since > KEPT_SECONDS}
        for pod in over:
            del self._gone[pod]
            self._read.pop(pod, None)
        for key in [key for key in self._events_seen if key[1] in over]:
            del self._events_seen[key]
        for key in [key for key in self._lines if key[0] in over]:
            del self._lines[key]


def _classify(line: bytes | None) -> tuple[str, Mapping[str, Any]]:
    """What a line counts as, and its fields."""
    if line is None:
        return "too_long", {}
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return "not_json", {}
    if not isinstance(record, dict):
        return "not_json", {}
    level = record.get("level")
    # Free text is not used as a label: the number of series would be unbounded, and it might disclose secrets.
    known = isinstance(level, str) and level.lower() in _LEVELS
    return (str(level).lower() if known else "other"), record


def _labels(event: str, pod: str, source: str) -> dict[str, str]:
    return {"event": event, "pod": pod, **({"source": source} if source else {})}


def _group(address: Any) -> str:
    """One network is one source: an IPv6 client has all addresses of a /64."""
    text = str(address).strip()
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        found = None
    if isinstance(found, ipaddress.IPv6Address):
        text = str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(hashlib.sha256(text.encode(errors="replace")).digest()[0] % SOURCE_GROUPS)


def _value(record: Mapping[str, Any], field: str) -> Any:
    if field in record:
        return record[field]
    first, _, rest = field.partition(".")
    inner = record.get(first)
    return _value(inner, rest) if rest and isinstance(inner, dict) else None
