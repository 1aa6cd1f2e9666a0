"""Every dashboard of one stack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from monitoring.alerts.rule import Domain, scoped
from monitoring.alerts.self_monitoring import IN_MAINTENANCE
from monitoring.dashboards.backups import backups
from monitoring.dashboards.board import WIDTH, Board, Mark, Panel, Query, Row, Word
from monitoring.dashboards.business import business
from monitoring.dashboards.database import database
from monitoring.dashboards.infrastructure import infrastructure
from monitoring.dashboards.overview import overview
from monitoring.dashboards.rotations import rotations
from monitoring.dashboards.slo import slo
from settings.backup import Backup
from settings.monitoring import Monitoring


def boards(
    namespace: str, monitoring: Monitoring, backup: Backup | None, domains: tuple[Domain, ...]
) -> tuple[Board, ...]:
    """The dashboards of a stack, narrowed to its namespace as its alerts (`domains`) are."""
    found = _boards(monitoring, backup)
    return tuple(_within(board, namespace, _alerts(board, domains)) for board in found)


def marks(namespace: str) -> tuple[Mark, ...]:
    """Releases, what the controller was told to do, and maintenance."""
    # A release is new while it serves and has not served a while ago.
    serves, before = (
        scoped(f"count by (release, git) (http_request_duration_seconds_count{offset})", namespace)
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


def _boards(monitoring: Monitoring, backup: Backup | None) -> Iterator[Board]:
    yield overview(monitoring)
    yield slo(monitoring)
    yield database(monitoring)
    yield infrastructure(monitoring)
    if backup:
        yield backups(backup)
        # The same exporter tells of both.
        yield rotations()
    yield business(monitoring)


def _alerts(board: Board, domains: tuple[Domain, ...]) -> tuple[str, ...]:
    """Names of the alerts that belong to a dashboard; one that always fires says nothing on it."""
    mine = (alert for domain in domains if domain.name in board.watches for alert in domain.alerts)
    return tuple(sorted({alert.name for alert in mine if alert.severity != "none"}))


def _within(board: Board, namespace: str, alerts: tuple[str, ...]) -> Board:
    fires = f'ALERTS{{namespace="{namespace}",alertstate="firing",alertname=~"{"|".join(alerts)}"}}'
    alerting = Panel(
        title="Alerts",
        queries=(Query(f"max by (alertname) ({fires})", "{{alertname}}"),),
        kind="timeline",
        width=WIDTH,
        words={1: Word(text="fires", color="red")},
        empty="no alert",
    )
    rows = (Row("Alerts", (alerting,)), *(Row(row.title, _narrowed(row.panels, namespace)) for row in board.rows))
    return replace(board, rows=rows)


def _narrowed(panels: tuple[Panel, ...], namespace: str) -> tuple[Panel, ...]:
    def narrowed(query: Query) -> Query:
        return replace(query, expr=scoped(query.expr, namespace))

    return tuple(replace(panel, queries=tuple(map(narrowed, panel.queries))) for panel in panels)
