"""Service level objective: the rest of the error budget, and its burn rate."""

from __future__ import annotations

from monitoring.alerts.requests import counted
from monitoring.alerts.slo import alert_name, ratio
from monitoring.dashboards.board import WIDTH, Board, Line, Measured, Panel, Query, Row, graph, number
from settings.monitoring import Burn, Monitoring

_DAY = 86_400


def slo(monitoring: Monitoring) -> Board:
    promise = monitoring.slo
    return Board(
        slug="slo",
        title="Service level",
        about=f"{promise.objective_percent:g} % of the requests within {promise.window_days} days must not fail.",
        since="now-7d",
        domains=("slo",),
        rows=(
            Row("Error budget", _budget(monitoring)),
            Row("Burn rate", tuple(map(_burning, promise.burns))),
            Row("Failed requests", _where(monitoring)),
        ),
    )


def _budget(monitoring: Monitoring) -> tuple[Panel, ...]:
    promise = monitoring.slo
    window = ratio(promise.window_days * _DAY)
    left = f"100 * (1 - {window} / {promise.budget:.9g})"
    spent = Line(value=0, below=True)
    return (
        number(
            f"Requests that did not fail in {promise.window_days} days",
            "percent",
            f"100 * (1 - {window})",
            Line(value=promise.objective_percent, below=True),
            width=6,
            about=f"Objective: {promise.objective_percent:g} %.",
        ),
        number(f"Error budget left of {promise.window_days} days", "percent", left, spent, width=6),
        graph("Error budget left", "percent", Query(left, "left"), lines=(spent,), width=12),
    )


def _burning(burn: Burn) -> Panel:
    return graph(
        f"Errors within {_span(burn.long_seconds)} and {_span(burn.short_seconds)}",
        "percentunit",
        Measured(alert_name(burn), f"of {_span(burn.long_seconds)}"),
        Query(ratio(burn.short_seconds), f"of {_span(burn.short_seconds)}"),
        width=WIDTH // 2,
        about=f"At the line, {burn.budget_percent:g} % of the budget is used within {_span(burn.long_seconds)}; "
        "the alert fires when both curves are above it.",
    )


def _where(monitoring: Monitoring) -> tuple[Panel, ...]:
    failed = counted(monitoring, 'status=~"5.."')
    count = "http_request_duration_seconds_count"
    return (
        graph(
            "Failed requests by route",
            "reqps",
            Query(f"sum by (method, route) (rate({count}{failed}[5m])) > 0", "{{method}} {{route}}"),
            width=12,
        ),
        graph(
            "Failed requests by release",
            "reqps",
            Query(f"sum by (release, git) (rate({count}{failed}[5m])) > 0", "{{release}} ({{git}})"),
            width=12,
        ),
    )


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds % 3600 == 0 else f"{seconds // 60} min"
