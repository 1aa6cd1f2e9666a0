"""The runbook's critical alerts (HerbisVeritas "Alertes Critiques (Slack)"), for people.

While a rollback trigger fires on the same subject, only the trigger is sent. These alerts also fire when no release is
the cause.
"""

from __future__ import annotations

from monitoring.alerts.counters import rise_within
from monitoring.alerts.events import happened, logged_cases
from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady, stepwise
from monitoring.alerts.release import failed_health
from monitoring.alerts.requests import Step, error_boundary, error_records, plain_share, share, window_cases
from monitoring.alerts.rule import COUNT, PERCENT, Alert, Domain
from settings.logs import REFUSED_LOGIN, REFUSED_WEBHOOK
from settings.monitoring import Monitoring

_CHAPTER = 'HerbisVeritas "Alertes Critiques (Slack)"'
NAME = "service"
"""Name of the domain."""
_COUNTED = "without counted events it does not fire; without metrics: `MetricsMissing`"


def service(monitoring: Monitoring) -> Domain:
    step = Step(domain="service", every=monitoring.evaluation_seconds)
    return Domain(
        name=NAME,
        title="Critical alerts",
        every=monitoring.evaluation_seconds,
        recordings=error_records(monitoring, step),
        alerts=(
            _health(monitoring),
            _front_door(monitoring),
            _errors(monitoring, step),
            _payments(monitoring),
            _refused(
                monitoring,
                "LoginsRefused",
                "shop_logins_total",
                REFUSED_LOGIN,
                "refused log-ins",
                monitoring.security.refused_logins,
            ),
            _refused(
                monitoring,
                "WebhooksForged",
                "shop_webhooks_total",
                REFUSED_WEBHOOK,
                "webhooks with a wrong signature",
                monitoring.security.refused_webhooks,
            ),
        ),
    )


def front_door(monitoring: Monitoring) -> Domain:
    """Of an application that is not this stack's, only its public address is probed."""
    return Domain(
        name=NAME,
        title="Public address",
        every=monitoring.evaluation_seconds,
        alerts=(_front_door(monitoring),),
    )


def _health(monitoring: Monitoring) -> Alert:
    failures, step = monitoring.triggers.health_failures, monitoring.health_seconds
    down = 4 * step
    return Alert(
        **failed_health(monitoring),
        name="HealthCheckFailing",
        severity="critical",
        summary=f"{failures} health checks in a row have failed",
        about="health",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE",
        missing="with fewer checks it does not fire; without checks: `MetricsMissing`",
        advice="`runbook status`; the answer of /api/health names the check that failed",
        quiet=True,
        more=(
            Case(
                title="so many in a row, whatever the database does",
                series={'probe_success{job="health"}': stepwise((1, 4), (0, 1000)), "pg_up": steady(0)},
                checks=((down + (failures - 2) * step, False), (down + (failures - 1) * step, True)),
                step=step,
            ),
            Case(
                title="and well again",
                series={'probe_success{job="health"}': stepwise((1, 4), (0, failures), (1, 100))},
                checks=((down + failures * step, False),),
                step=step,
            ),
        ),
    )


def _front_door(monitoring: Monitoring) -> Alert:
    lasting, step = monitoring.triggers.health_failures * monitoring.health_seconds, monitoring.health_seconds
    probe = 'probe_success{job="front-door"}'
    return Alert(
        name="FrontDoorClosed",
        measure=f"max({probe} == 0)",
        lasting=lasting,
        severity="critical",
        summary="customers cannot reach the application: its public address does not answer",
        about="front-door",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE, seen from outside",
        missing="`MetricsMissing`",
        advice="if HealthCheckFailing fires too, start there; else DNS, the certificate, the ingress controller",
        quiet=True,
        boundary=Boundary(
            beyond={probe: stepwise((1, 3), (0, 1000))}, within={probe: steady(1)}, step=step, since=3 * step
        ),
    )


def _errors(monitoring: Monitoring, step: Step) -> Alert:
    limit, window = monitoring.critical.error_rate_percent, monitoring.critical.error_rate_seconds
    return Alert(
        name="ErrorRateHigh",
        measure=share(monitoring, step, "errors", "requests", window),
        operator=">",
        limit=limit,
        shown=plain_share(step, "errors", "requests", window),
        severity="warning",
        summary=f"more than {limit:g} % of the answers of release {{{{ $labels.release }}}} in {window} s are errors",
        about="errors",
        channel="alerts",
        chapter=f"{_CHAPTER}: HIGH_ERROR_RATE",
        missing="without requests it does not fire; without metrics: `MetricsMissing`",
        advice="the dashboard `Release overview` shows the routes; `kubectl logs` of the backend shows the errors",
        value=PERCENT,
        quiet=True,
        boundary=error_boundary(step, limit),
        more=window_cases(monitoring, step, window, limit),
    )


def _payments(monitoring: Monitoring) -> Alert:
    critical = monitoring.critical
    limit, span, least = critical.payment_failure_percent, critical.payment_seconds, critical.least_payments
    step = max(monitoring.scrape_seconds, span // 60)
    few = critical.least_failed_payments
    all_, failed = (
        f"sum({rise_within(f'shop_payments_total{{{matcher}}}', span)})" for matcher in ("", 'result="failed"')
    )
    good, bad = 'shop_payments_total{result="succeeded"}', 'shop_payments_total{result="failed"}'
    full, most = (span // step + 2) * step, max(least, few)
    return Alert(
        name="PaymentFailures",
        measure=f"100 * {failed} / {all_}",
        operator=">",
        limit=limit,
        after=f"and {all_} >= {least} and {failed} >= {few}",
        severity="critical",
        summary=f"more than {limit:g} % of the payments within {span // 60} min have failed",
        about="payments",
        channel="business",
        chapter=f"{_CHAPTER}: PAYMENT_FAILURES",
        missing=_COUNTED,
        advice="the payment provider's status page; then `kubectl logs` of the backend, lines with payment_failed",
        value=PERCENT,
        quiet=True,
        boundary=Boundary(
            beyond={good: rising(999 - 10 * limit), bad: rising(10 * limit + 1)},
            within={good: rising(1000 - 10 * limit), bad: rising(10 * limit)},
            step=step,
            since=full,
            value=f"{limit + 0.1:.1f} %",
        ),
        more=(
            Case(
                title="too few to judge by, and one more",
                series={good: steady(0), bad: stepwise((0, 3), (most - 1, 3), (most, 1000))},
                checks=((5 * step, False), (6 * step, True)),
                step=step,
                value="100.0 %",
            ),
            Case(
                title="too few that fail, and one more",
                series={good: stepwise((0, 3), (2 * most, 1000)), bad: stepwise((0, 3), (few - 1, 3), (few, 1000))},
                checks=((5 * step, False), (6 * step, True)),
                step=step,
                value=f"{100 * few / (2 * most + few):.1f} %",
            ),
            Case(
                title="the first that fail, in a counter that appears with them",
                series={
                    'up{job="backend",instance="1"}': steady(1),
                    'shop_payments_total{job="backend",instance="1",result="failed"}': f"_x70 {steady(most)}",
                },
                checks=((69 * step, False), (70 * step, True)),
                step=step,
                value="100.0 %",
            ),
        ),
    )


def _refused(monitoring: Monitoring, name: str, metric: str, event: str, what: str, limit: int) -> Alert:
    span, step = monitoring.security.window_seconds, monitoring.scrape_seconds
    counter = f'{metric}{{result="refused"}}'
    return Alert(
        name=name,
        measure=happened(monitoring, counter, event, span),
        operator=">=",
        limit=limit,
        severity="critical",
        summary=f"security incident: {limit} or more {what} within {span} s",
        about=name.lower(),
        channel="security",
        chapter=f"{_CHAPTER}: SECURITY_INCIDENT",
        missing=_COUNTED,
        advice="`kubectl logs` of the backend shows addresses and accounts; `runbook security lockdown` admits only "
        "allowed addresses",
        value=COUNT,
        more=(
            Case(
                title="so many, on two pods",
                series={
                    f'{metric}{{result="refused",instance="a"}}': stepwise((7, 3), (6 + limit, 1000)),
                    f'{metric}{{result="refused",instance="b"}}': stepwise((0, 4), (1, 1000)),
                    f'{metric}{{result="accepted",instance="b"}}': rising(1000),
                },
                checks=((3 * step, False), (4 * step, True)),
                step=step,
                value=str(limit),
            ),
            Case(
                title="one fewer",
                series={counter: stepwise((7, 3), (6 + limit, 1000)), f'{metric}{{result="accepted"}}': rising(1000)},
                checks=((3 * step, False), (5 * step, False)),
                step=step,
            ),
            *logged_cases(monitoring, counter, event, limit),
        ),
    )
