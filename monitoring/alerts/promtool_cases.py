"""Sample metrics, and when an alert fires on them: the input of `promtool test rules`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sample metrics, and at which seconds an alert fires on them."""

    title: str
    series: Mapping[str, str]
    """Values of each series, in promtool's notation, one every `step` seconds; without the stack's namespace."""
    checks: tuple[tuple[int, bool], ...]
    """Seconds, and whether the alert fires then."""
    step: int
    """Seconds from one value to the next, and from one evaluation of the rules to the next."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels of the alert that come from the series."""
    value: str = ""
    """The value in its message."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Sample metrics on both sides of an alert's limit."""

    beyond: Mapping[str, str]
    within: Mapping[str, str]
    step: int
    since: int = 0
    """Second from which `beyond` exceeds the limit."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    value: str = ""
    """As in `Case`, of what is beyond."""
    titles: tuple[str, str] = ("just beyond the limit", "just within it")

    def cases(self, lasting: int) -> tuple[Case, Case]:
        since, step = self.since, self.step
        return (
            Case(
                title=self.titles[0],
                series=self.beyond,
                checks=fires(lasting, since=since, step=step),
                step=step,
                labels=self.labels,
                value=self.value,
            ),
            Case(title=self.titles[1], series=self.within, checks=never(lasting, since=since, step=step), step=step),
        )


def fires(lasting: int, *, since: int, step: int) -> tuple[tuple[int, bool], ...]:
    """Checks of a condition that is true from `since` on: the alert fires when it has lasted, and not just before."""
    up = since + ceil(lasting / step) * step
    return ((up - step, False), (up, True)) if lasting else ((up, True),)


def never(lasting: int, *, since: int, step: int) -> tuple[tuple[int, bool], ...]:
    """The check of a condition that is never true: no alert, long after it could have lasted."""
    return ((fires(lasting, since=since, step=step)[-1][0] + 4 * step, False),)


def rising(by: float, *, times: int = 1000) -> str:
    """A counter that rises by the same number at every step."""
    return f"0+{by:.12g}x{times}"


def steady(value: float, *, times: int = 1000) -> str:
    """A constant value."""
    return f"{value:.12g}+0x{times}"


def stepwise(*values: float | tuple[float, int]) -> str:
    """Values one after another; a pair is a value and how often it is repeated."""
    pairs: Iterable[tuple[float, int]] = ((v if isinstance(v, tuple) else (v, 1)) for v in values)
    return " ".join(f"{value:.12g}+0x{times - 1}" for value, times in pairs)
