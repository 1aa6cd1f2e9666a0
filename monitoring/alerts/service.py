"""The runbook's critical alerts (HerbisVeritas "Alertes Critiques (Slack)"), for people.

Where a trigger fires on the same subject it is told instead. These fire, too, when no release is to blame.
"""

from __future__ import annotations

from datetime import timedelta

from monitoring.alerts.events import happened, logged_cases
from monitoring.alerts.promtool_cases import Case, fires, never, rising, steady, stepwise
from monitoring.alerts.release import failed_health
from monitoring.alerts.requests import enough_requests, error_cases, error_percent
from monitoring.alerts.rule import Alert, Domain, seconds
from settings.logs import REFUSED_LOGIN, REFUSED_WEBHOOK
from settings.monitoring import Monitoring

_CHAPTER = 'HerbisVeritas "Alertes Critiques (Slack)"'
_COUNTED = "nothing was counted; no metrics at all: `MetricsMissing`"


def service(monitoring: Monitoring) -> Domain:
    return Domain(
        name="service",
        title="Critical alerts",
        every=monitoring.evaluation_seconds,
        alerts=(
            _health(monitoring),
            _front_door(monitoring),
            _errors(monitoring),
            _payments(monitoring),
            _refused(
                monitoring,
                "LoginsRefused",
                "shop_logins_total",
                REFUSED_LOGIN,
                "log-ins",
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


def _health(monitoring: Monitoring) -> Alert:
    failures, step = monitoring.triggers.health_failures, monitoring.health_seconds
    down = 4 * step
    return Alert(
        "HealthCheckFailing",
        failed_health(monitoring, failures),
        timedelta(),
        "critical",
        f"health check failure detected: {failures} in a row",
        about="health",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE",
        missing="fewer checks than that are no failure: `MetricsMissing` tells that nobody checks",
        advice="ask `runbook status`; /api/health names the check that failed",
        quiet=True,
        cases=(
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
        "FrontDoorClosed",
        f"max({probe} == 0)",
        timedelta(seconds=lasting),
        "critical",
        "customers cannot get in: the shop does not answer at its public address",
        about="front-door",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE, seen from outside",
        missing="`MetricsMissing`",
        advice="with health failing, look there first; else DNS, certificate and ingress controller",
        quiet=True,
        cases=(
            Case(
                title="closed for so long",
                series={probe: stepwise((1, 3), (0, 1000))},
                checks=fires(lasting, since=3 * step, step=step),
                step=step,
            ),
            Case(title="open", series={probe: steady(1)}, checks=never(lasting, since=0, step=step), step=step),
        ),
    )


def _errors(monitoring: Monitoring) -> Alert:
    limit, lasting = monitoring.critical.error_rate_percent, monitoring.critical.error_rate_seconds
    return Alert(
        "ErrorRateHigh",
        f"{error_percent(monitoring)} > {limit:g} {enough_requests(monitoring, lasting)}",
        timedelta(seconds=lasting),
        "warning",
        f"error rate above threshold: more than {limit:g} % of the answers of release {{{{ $labels.release }}}}",
        about="errors",
        channel="alerts",
        chapter=f"{_CHAPTER}: HIGH_ERROR_RATE",
        missing="no requests are no errors; no metrics at all: `MetricsMissing`",
        advice="`runbook logs --level error`; the overview's dashboard shows routes and releases",
        value='{{ $value | printf "%.1f" }} %',
        quiet=True,
        cases=error_cases(monitoring, limit, lasting),
    )


def _payments(monitoring: Monitoring) -> Alert:
    critical = monitoring.critical
    limit, span, least = critical.payment_failure_percent, critical.payment_seconds, critical.least_payments
    step = max(monitoring.scrape_seconds, span // 60)
    window = f"shop_payments_total[{seconds(span)}]"
    failed = f'shop_payments_total{{result="failed"}}[{seconds(span)}]'
    good, bad = 'shop_payments_total{result="succeeded"}', 'shop_payments_total{result="failed"}'
    full = (span // step + 2) * step
    return Alert(
        "PaymentFailures",
        f"100 * sum(increase({failed})) / sum(increase({window})) > {limit:g} and sum(increase({window})) >= {least}",
        timedelta(),
        "critical",
        f"payment failure spike detected: more than {limit:g} % of the payments within {span // 60} min",
        about="payments",
        channel="business",
        chapter=f"{_CHAPTER}: PAYMENT_FAILURES",
        missing=f"{_COUNTED}. No payments at all are no failures",
        advice="the payment provider's status page; then `runbook logs --query payment_failed`",
        value='{{ $value | printf "%.1f" }} %',
        quiet=True,
        cases=(
            Case(
                title="just above the limit",
                series={good: rising(999 - 10 * limit), bad: rising(10 * limit + 1)},
                checks=((full, True),),
                step=step,
                value=f"{limit + 0.1:.1f} %",
            ),
            Case(
                title="at the limit",
                series={good: rising(1000 - 10 * limit), bad: rising(10 * limit)},
                checks=((full, False),),
                step=step,
            ),
            Case(
                title="too few to judge by, and one more",
                series={good: steady(0), bad: stepwise((0, 3), (least - 1, 3), (least, 1000))},
                checks=((5 * step, False), (full, True)),
                step=step,
                value="100.0 %",
            ),
        ),
    )


def _refused(monitoring: Monitoring, name: str, metric: str, event: str, what: str, limit: int) -> Alert:
    span, step = monitoring.security.window_seconds, monitoring.scrape_seconds
    counter = f'{metric}{{result="refused"}}'
    return Alert(
        name,
        f"{happened(monitoring, counter, event, span)} >= {limit}",
        timedelta(),
        "critical",
        f"security incident detected: {limit} or more refused {what} within {span} s",
        about=name.lower(),
        channel="security",
        chapter=f"{_CHAPTER}: SECURITY_INCIDENT",
        missing=_COUNTED,
        advice="`runbook logs`: from where, for whom? `runbook security lockdown` lets in only who is on the list",
        value='{{ $value | printf "%.0f" }}',
        cases=(
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
