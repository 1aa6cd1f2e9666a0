"""What a dashboard shows, as data: panels ask what the alerts ask, and draw their limits as lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Color = Literal["green", "orange", "red", "blue", "gray"]
WIDTH = 24
"""Columns of a row."""


@dataclass(frozen=True)
class Query:
    """One question to Prometheus."""

    expr: str
    legend: str = ""
    """Name of its series; `{{label}}` is filled in."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A limit; the alert on it gives it its colour."""

    alert: str = ""
    """Empty where no alert is on this number itself."""
    value: float
    below: bool = False
    """Whether it is bad to be below it."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a number means. A number that has none beside others that have is no good one."""

    text: str
    color: Color


YES_OR_NO: Mapping[int, Word] = {0: Word(text="no", color="red"), 1: Word(text="yes", color="green")}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph, number or timeline."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Literal["graph", "number", "timeline"] = "graph"
    width: int = 8
    lines: tuple[Line, ...] = ()
    words: Mapping[int, Word] = field(default_factory=dict[int, Word])
    about: str = ""
    """What cannot be seen."""
    empty: str = "no data"
    """What is shown where nothing is."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is marked on every graph, when the query has a result."""

    name: str
    color: Literal["blue", "red", "gray"]
    query: Query


@dataclass(frozen=True)
class Row:
    """Panels of one subject."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Board:
    """One dashboard."""

    slug: str
    title: str
    about: str
    rows: tuple[Row, ...]
    since: str
    """How far back it looks when it is opened."""
    watches: tuple[str, ...]
    """Names of the groups of alerts that belong to it."""


def graph(
    title: str, unit: str, *queries: Query, lines: tuple[Line, ...] = (), width: int = 8, about: str = ""
) -> Panel:
    return Panel(title=title, unit=unit, queries=queries, lines=lines, width=width, about=about)


def number(
    title: str,
    unit: str,
    expr: str,
    *lines: Line,
    legend: str = "",
    words: Mapping[int, Word] | None = None,
    width: int = 4,
    about: str = "",
    empty: str = "no data",
) -> Panel:
    return Panel(
        title=title,
        unit=unit,
        queries=(Query(expr, legend),),
        kind="number",
        lines=lines,
        words=words or {},
        width=width,
        about=about,
        empty=empty,
    )
