"""Orders, payments, log-ins and webhooks.

HerbisVeritas "Alertes Critiques": PAYMENT_FAILURES, SECURITY_INCIDENT.
"""

from __future__ import annotations

from monitoring.dashboards.board import Board, Measured, Panel, Query, Row, graph, number
from settings.monitoring import Monitoring


def business(monitoring: Monitoring) -> Board:
    return Board(
        slug="business",
        title="Business",
        about="Orders, payments, log-ins and webhooks.",
        since="now-24h",
        domains=("service",),
        rows=(Row("Orders and payments", _payments(monitoring)), Row("Log-ins and webhooks", _doors(monitoring))),
    )


def _payments(monitoring: Monitoring) -> tuple[Panel, ...]:
    critical = monitoring.critical
    return (
        number("Orders within an hour", "short", "sum(increase(shop_orders_total{}[1h]))"),
        number("Payments that failed", "percent", Measured("PaymentFailures"), empty="no payments"),
        graph("Orders", "opm", Query("60 * sum(rate(shop_orders_total{}[5m]))", "orders")),
        graph("Payments", "opm", Query("60 * sum by (result) (rate(shop_payments_total{}[5m]))", "{{result}}")),
        graph(
            f"Payments that failed within {critical.payment_seconds // 60} min",
            "percent",
            Measured("PaymentFailures", "failed"),
            width=24,
            about=f"No alert below {critical.least_payments} payments: one refused card of two is no spike.",
        ),
    )


def _doors(monitoring: Monitoring) -> tuple[Panel, ...]:
    span = monitoring.security.window_seconds
    return (
        graph("Log-ins", "opm", Query("60 * sum by (result) (rate(shop_logins_total{}[5m]))", "{{result}}"), width=12),
        graph(
            f"Refused log-ins within {span} s",
            "short",
            Measured("LoginsRefused", "refused"),
            width=12,
        ),
        graph(
            "Webhooks",
            "opm",
            Query("60 * sum by (endpoint, result) (rate(shop_webhooks_total{}[5m]))", "{{endpoint}} {{result}}"),
            width=12,
        ),
        graph(
            f"Webhooks with a wrong signature within {span} s",
            "short",
            Measured("WebhooksForged", "refused"),
            width=12,
        ),
    )
