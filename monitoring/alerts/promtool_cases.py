"""Made-up metrics, and whether an alert fires on them: what promtool is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Case:
    """Made-up metrics, and when an alert fires on them and when not."""

    title: str
    series: Mapping[str, str]
    """Values of each series, in promtool's notation, one every `step` seconds; without the stack's namespace."""
    checks: tuple[tuple[int, bool], ...]
    """At which second it fires, and at which it does not."""
    step: int
    """Seconds from one value to the next, and from one evaluation of the rules to the next."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels of the alert that come from the series."""
    value: str = ""
    """The value it tells."""


def fires(lasting: timedelta | float, *, since: int, step: int) -> tuple[tuple[int, bool], ...]:
    """The checks of what is so from `since` on: not yet just before its time is up, and then it does."""
    whole = lasting.total_seconds() if isinstance(lasting, timedelta) else lasting
    up = since + ceil(whole / step) * step
    return ((up - step, False), (up, True)) if whole else ((up, True),)


def never(lasting: timedelta | float, *, since: int, step: int) -> tuple[tuple[int, bool], ...]:
    """The check of what stays below the limit: not even long after its time would be up."""
    return ((fires(lasting, since=since, step=step)[-1][0] + 4 * step, False),)


def rising(by: float, *, times: int = 1000) -> str:
    """A counter that goes up by the same at every step."""
    return f"0+{by:.12g}x{times}"


def steady(value: float, *, times: int = 1000) -> str:
    """A value that stays."""
    return f"{value:.12g}+0x{times}"


def stepwise(*values: float | tuple[float, int]) -> str:
    """Values one after another; a pair is a value and how often it comes."""
    pairs: Iterable[tuple[float, int]] = ((v if isinstance(v, tuple) else (v, 1)) for v in values)
    return " ".join(f"{value:.12g}+0x{times - 1}" for value, times in pairs)
