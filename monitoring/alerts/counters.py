"""How much counters rose, in PromQL, with what `increase()` misses.

A counter that appears at 1 (the first error of a pod, a route and a method) has no increase: its first value counts
where the monitoring knows that it was 0 before. It knows that where the pod was scraped and had no such series yet, and
where the pod's process is young (`process_start_time_seconds`, which the client libraries of Prometheus export).
Where it does not know, after an outage of its own, a counter rises from its first value: what is old is not counted.
`increase()` also extrapolates, and overstates few events on a young pod; these functions do not.
"""

from __future__ import annotations

_YOUNG_SECONDS = 60
"""Seconds from the start of a process until its first scrape, at the most."""
_TARGET = "on (job, instance)"


def rise_between(series: str, span: int, *, delay: int = 0) -> str:
    """How much each series rose in the step of `span` seconds that ended `delay` seconds ago. Evaluated once in each
    step, the results add up to the counter. After a restart of the process, the new one rose from 0."""
    end, begin = _offset(delay), f" offset {delay + span}s"
    return (
        f"({series}{end} - {series}{begin}) >= 0 or ({series}{end} and {_TARGET} "
        f"(up{{}}{begin} == 1 or process_start_time_seconds{{}}{end} > time() - {delay + span + _YOUNG_SECONDS}))"
    )


def rise_within(series: str, span: int) -> str:
    """How much each series rose within the last `span` seconds, the series of pods that are gone included. Where a
    process restarted meanwhile, `increase()` estimates it."""
    window, begin = f"{series}[{span}s]", f"{series} offset {span}s"
    newest, whole = f"max_over_time({window})", f"resets({window}) == 0"
    young = f"max_over_time(process_start_time_seconds{{}}[{span}s]) > time() - {span + _YOUNG_SECONDS}"
    return (
        f"({newest} - {begin} and {whole}) or "
        f"({newest} and {_TARGET} (up{{}} offset {span}s == 1 or {young}) and {whole}) or "
        f"({newest} - min_over_time({window}) and {whole}) or increase({window})"
    )


def _offset(seconds: int) -> str:
    return f" offset {seconds}s" if seconds else ""
