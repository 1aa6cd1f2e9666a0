"""Orders and payments, and who tries to get in.

HerbisVeritas "Alertes Critiques": PAYMENT_FAILURES, SECURITY_INCIDENT.
"""

from __future__ import annotations

from monitoring.alerts.events import happened
from monitoring.alerts.rule import seconds
from monitoring.dashboards.board import Board, Line, Panel, Query, Row, graph, number
from settings.logs import REFUSED_LOGIN, REFUSED_WEBHOOK
from settings.monitoring import Monitoring


def business(monitoring: Monitoring) -> Board:
    return Board(
        slug="business",
        title="Business",
        about="Orders, payments, log-ins and webhooks.",
        since="now-24h",
        watches=("service",),
        rows=(Row("Orders and payments", _payments(monitoring)), Row("Log-ins and webhooks", _doors(monitoring))),
    )


def _payments(monitoring: Monitoring) -> tuple[Panel, ...]:
    critical = monitoring.critical
    span = seconds(critical.payment_seconds)
    window, failed = f"shop_payments_total[{span}]", f'shop_payments_total{{result="failed"}}[{span}]'
    percent = f"100 * sum(increase({failed})) / sum(increase({window}))"
    limit = Line(alert="PaymentFailures", value=critical.payment_failure_percent)
    return (
        number("Orders within an hour", "short", "sum(increase(shop_orders_total[1h]))"),
        number("Payments that failed", "percent", percent, limit, empty="no payments"),
        graph("Orders", "opm", Query("60 * sum(rate(shop_orders_total[5m]))", "orders")),
        graph("Payments", "opm", Query("60 * sum by (result) (rate(shop_payments_total[5m]))", "{{result}}")),
        graph(
            f"Payments that failed within {critical.payment_seconds // 60} min",
            "percent",
            Query(percent, "failed"),
            lines=(limit,),
            width=24,
            about=f"Fewer than {critical.least_payments} payments alert nobody: one refused card of two is no spike.",
        ),
    )


def _doors(monitoring: Monitoring) -> tuple[Panel, ...]:
    security = monitoring.security
    span = security.window_seconds

    def refused(metric: str, event: str) -> str:
        return happened(monitoring, f'{metric}{{result="refused"}}', event, span)

    return (
        graph("Log-ins", "opm", Query("60 * sum by (result) (rate(shop_logins_total[5m]))", "{{result}}"), width=12),
        graph(
            f"Refused log-ins within {span} s",
            "short",
            Query(refused("shop_logins_total", REFUSED_LOGIN), "refused"),
            lines=(Line(alert="LoginsRefused", value=security.refused_logins),),
            width=12,
        ),
        graph(
            "Webhooks",
            "opm",
            Query("60 * sum by (endpoint, result) (rate(shop_webhooks_total[5m]))", "{{endpoint}} {{result}}"),
            width=12,
        ),
        graph(
            f"Webhooks with a wrong signature within {span} s",
            "short",
            Query(refused("shop_webhooks_total", REFUSED_WEBHOOK), "refused"),
            lines=(Line(alert="WebhooksForged", value=security.refused_webhooks),),
            width=12,
        ),
    )
