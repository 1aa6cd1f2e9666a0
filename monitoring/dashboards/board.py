"""Dashboards as data. Panels show what alerts measure, with the alerts' limits as lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Color = Literal["green", "orange", "red", "blue", "gray"]
WIDTH = 24
"""Columns of a row."""


@dataclass(frozen=True)
class Query:
    """One query to Prometheus."""

    expr: str
    legend: str = ""
    """Name of its series; `{{label}}` is filled in."""


@dataclass(frozen=True)
class Measured:
    """What an alert measures; its limit becomes a line of the panel."""

    alert: str
    legend: str = ""
    also: str = ""
    """Another alert on the same measure."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A limit, in the colour of its alert."""

    alert: str = ""
    """Empty if there is no alert on this number itself."""
    value: float
    below: bool = False
    """Whether values below it are bad."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """Meaning of a number. In a panel with words, a number without one is not good."""

    text: str
    color: Color


YES_OR_NO: Mapping[int, Word] = {0: Word(text="no", color="red"), 1: Word(text="yes", color="green")}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph, number or timeline."""

    title: str
    queries: tuple[Query, ...] = ()
    measures: tuple[Measured, ...] = ()
    """Shown before the queries; their alerts' limits are lines."""
    unit: str = "short"
    kind: Literal["graph", "number", "timeline"] = "graph"
    width: int = 8
    lines: tuple[Line, ...] = ()
    """Besides those of what is measured."""
    words: Mapping[int, Word] = field(default_factory=dict[int, Word])
    about: str = ""
    """Description: what the panel does not show."""
    empty: str = "no data"
    """Text shown without data."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """An annotation on every graph, while the query has a result."""

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
    """Time range when it is opened."""
    domains: tuple[str, ...]
    """Names of the groups of alerts that belong to it."""


def graph(
    title: str, unit: str, *queries: Query | Measured, lines: tuple[Line, ...] = (), width: int = 8, about: str = ""
) -> Panel:
    return Panel(
        title=title,
        unit=unit,
        queries=tuple(one for one in queries if isinstance(one, Query)),
        measures=tuple(one for one in queries if isinstance(one, Measured)),
        lines=lines,
        width=width,
        about=about,
    )


def number(
    title: str,
    unit: str,
    query: str | Measured,
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
        queries=(Query(query, legend),) if isinstance(query, str) else (),
        measures=(query,) if isinstance(query, Measured) else (),
        kind="number",
        lines=lines,
        words=words or {},
        width=width,
        about=about,
        empty=empty,
    )
