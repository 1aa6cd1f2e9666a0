"""Alerts of one shape: a measurement above a limit for a while."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

from monitoring.alerts.promtool_cases import Case, fires, never
from monitoring.alerts.rule import Alert, Channel

Made = Mapping[str, str]


def above(
    name: str,
    expr: str,
    *,
    lasting: int,
    severity: Literal["critical", "warning"],
    summary: str,
    about: str,
    channel: Channel,
    chapter: str,
    missing: str,
    advice: str,
    beyond: Made,
    within: Made,
    step: int,
    since: int = 0,
    labels: Mapping[str, str] | None = None,
    value: tuple[str, str] = ("", ""),
    quiet: bool = False,
    also: tuple[Case, ...] = (),
) -> Alert:
    """`beyond` and `within` are metrics just beyond the limit and just within it; `value` is a template and what it
    says of those beyond."""
    return Alert(
        name,
        expr,
        timedelta(seconds=lasting),
        severity,
        summary,
        about=about,
        channel=channel,
        chapter=chapter,
        missing=missing,
        advice=advice,
        value=value[0],
        quiet=quiet,
        cases=(
            Case(
                title="just beyond the limit",
                series=beyond,
                checks=fires(lasting, since=since, step=step),
                step=step,
                labels=labels or {},
                value=value[1],
            ),
            Case(title="just within it", series=within, checks=never(lasting, since=since, step=step), step=step),
            *also,
        ),
    )
