"""Every dashboard of one stack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from monitoring.alerts.pages import NAME as PAGES
from monitoring.alerts.release import NAME as TRIGGERS
from monitoring.alerts.rule import Alert, Domain, scoped
from monitoring.alerts.self_monitoring import IN_MAINTENANCE
from monitoring.alerts.service import NAME as SERVICE
from monitoring.dashboards.availability import availability
from monitoring.dashboards.backups import backups
from monitoring.dashboards.board import WIDTH, Board, Line, Mark, Panel, Query, Row, Word
from monitoring.dashboards.business import business
from monitoring.dashboards.database import database
from monitoring.dashboards.infrastructure import infrastructure
from monitoring.dashboards.overview import overview
from monitoring.dashboards.pages import pages
from monitoring.dashboards.rotations import rotations
from monitoring.dashboards.slo import slo
from settings.backup import Backup
from settings.monitoring import Monitoring


def boards(
    namespace: str, monitoring: Monitoring, backup: Backup | None, domains: tuple[Domain, ...]
) -> tuple[Board, ...]:
    """The dashboards of a stack, narrowed to its namespace as its alerts (`domains`) are."""
    found = _boards(monitoring, backup, domains)
    return tuple(_within(board, namespace, domains) for board in found)


def marks(namespace: str) -> tuple[Mark, ...]:
    """Annotations: releases, triggers that fired, and maintenance."""
    # A release is new if it serves now and did not serve two minutes ago.
    serves, before = (
        scoped(f"count by (release, git) (http_request_duration_seconds_count{{}}{offset})", namespace)
        for offset in ("", " offset 2m")
    )
    acting = f'ALERTS{{namespace="{namespace}",alertstate="firing",action!=""}}'
    maintaining = f'ALERTS{{namespace="{namespace}",alertname="{IN_MAINTENANCE}"}}'
    return (
        Mark(
            name="Releases",
            color="blue",
            query=Query(f"{serves} unless on (release, git) {before}", "Release {{release}} ({{git}})"),
        ),
        Mark(
            name="Rollbacks and lockdowns",
            color="red",
            query=Query(f"max by (alertname, action) ({acting})", "{{action}}: {{alertname}}"),
        ),
        Mark(name="Maintenance", color="gray", query=Query(f"max({maintaining})", "Maintenance")),
    )


def _boards(monitoring: Monitoring, backup: Backup | None, domains: tuple[Domain, ...]) -> Iterator[Board]:
    names = {domain.name for domain in domains}
    if has_application := TRIGGERS in names:
        yield overview(monitoring)
        yield slo(monitoring)
    elif SERVICE in names:
        yield availability()
    if monitoring.postgres or monitoring.redis:
        yield database(monitoring)
    yield infrastructure(monitoring, {alert.name for domain in domains for alert in domain.alerts})
    if backup:
        yield backups(backup)
        # Both come from the same exporter.
        yield rotations()
    if PAGES in names:
        yield pages()
    if has_application:
        yield business(monitoring)


def _alerts(board: Board, domains: tuple[Domain, ...]) -> tuple[str, ...]:
    """Names of the alerts that belong to a dashboard; the Watchdog always fires and is left out."""
    mine = (alert for domain in domains if domain.name in board.domains for alert in domain.alerts)
    return tuple(sorted({alert.name for alert in mine if alert.severity != "none"}))


def _within(board: Board, namespace: str, domains: tuple[Domain, ...]) -> Board:
    fires = f'ALERTS{{namespace="{namespace}",alertstate="firing",alertname=~"{"|".join(_alerts(board, domains))}"}}'
    alerting = Panel(
        title="Alerts",
        queries=(Query(f"max by (alertname) ({fires})", "{{alertname}}"),),
        kind="timeline",
        width=WIDTH,
        words={1: Word(text="fires", color="red")},
        empty="no alert",
    )
    alerts = {alert.name: alert for domain in domains for alert in domain.alerts}
    rows = (Row(row.title, tuple(_resolved(panel, alerts, namespace) for panel in row.panels)) for row in board.rows)
    return replace(board, rows=(Row("Alerts", (alerting,)), *rows))


def _resolved(panel: Panel, alerts: Mapping[str, Alert], namespace: str) -> Panel:
    """The panel with the queries and lines of the alerts it shows."""
    measured = tuple(Query(alerts[one.alert].shown or alerts[one.alert].measure, one.legend) for one in panel.measures)
    queries = tuple(replace(query, expr=scoped(query.expr, namespace)) for query in panel.queries)
    drawn = (alerts[name] for one in panel.measures for name in (one.alert, one.also) if name)
    lines = tuple(Line(alert=each.name, value=each.limit, below=each.operator == "<") for each in drawn)
    return replace(panel, queries=(*measured, *queries), lines=(*lines, *panel.lines))
