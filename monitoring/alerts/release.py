"""The runbook's rollback triggers (HerbisVeritas "Triggers Rollback Automatique").

Where the metrics have the labels `release` and `git`, the alert has them too. What fails while the database or Redis is
away or its state is unknown, and right after, is not counted against a release: an older one would not repair it. What
failed before still counts. An exporter that is refused because a release holds the connections is no reason to keep it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Literal, TypedDict

from monitoring.alerts.events import happened_from_one_source, logged_cases
from monitoring.alerts.gateway import gateway_errors, gateway_records
from monitoring.alerts.promtool_cases import Case, steady, stepwise
from monitoring.alerts.requests import (
    ACCUSED,
    BAD,
    COUNT,
    Step,
    error_boundary,
    error_records,
    plain_share,
    share,
    window_cases,
)
from monitoring.alerts.response import response, response_records, unmeasured
from monitoring.alerts.restarts import restarts
from monitoring.alerts.rule import COUNT as NUMBER
from monitoring.alerts.rule import PERCENT, Alert, Domain
from monitoring.alerts.trigger import CHAPTER, CONTROLLER, UP, away_records, blameless, steps, stores, unless_away
from settings.logs import SQL_INJECTION
from settings.monitoring import Monitoring

NAME = "triggers"
"""Name of the domain."""


def triggers(monitoring: Monitoring, services: Iterable[str]) -> Domain:
    step = steps(monitoring)
    gateway = monitoring.gateway
    return Domain(
        name=NAME,
        title="Rollback triggers",
        every=monitoring.evaluation_seconds,
        recordings=(
            *away_records(monitoring),
            *error_records(monitoring, step),
            response_records(monitoring, step),
            *(gateway_records(gateway, step) if gateway else ()),
        ),
        alerts=(
            _errors(monitoring, step),
            response(monitoring, step),
            unmeasured(monitoring),
            *((gateway_errors(monitoring, gateway, step),) if gateway else ()),
            restarts(monitoring, services),
            _health(monitoring),
            _attack(monitoring),
        ),
    )


def _errors(monitoring: Monitoring, step: Step) -> Alert:
    limit, window = monitoring.triggers.error_rate_percent, monitoring.triggers.error_rate_seconds
    return Alert(
        name="RollbackErrorRate",
        measure=share(monitoring, step, "errors", "requests", window),
        operator=">",
        limit=limit,
        shown=plain_share(step, "errors", "requests", window),
        severity="critical",
        summary=f"more than {limit:g} % of the answers of release {{{{ $labels.release }}}} in {window} s are errors",
        about="errors",
        channel="critical",
        chapter=f"{CHAPTER}: ERROR_RATE_CRITICAL",
        missing="without requests it does not fire; without metrics: `MetricsMissing`; without a pod: `RollbackHealth`",
        advice=CONTROLLER,
        value=PERCENT,
        action="rollback",
        quiet=True,
        boundary=error_boundary(step, limit),
        more=(*window_cases(monitoring, step, window, limit), *blameless(monitoring, step, _failing, _HALF, ACCUSED)),
    )


_HALF = "50.0 %"


def _failing(values: str) -> dict[str, str]:
    return {f'{COUNT}{{route="/shop",status="{status}",{BAD}}}': values for status in (200, 500)}


def _health(monitoring: Monitoring) -> Alert:
    failures, step = monitoring.triggers.health_failures, monitoring.health_seconds
    series = {'probe_success{job="health"}': stepwise((1, 5), (0, 1000))}
    down, away = 5 * step, 12
    blamed = (away - 1) * step + (_health_veto(monitoring) // step + 1) * step
    return Alert(
        **failed_health(monitoring, unless_away(monitoring, _health_veto(monitoring))),
        name="RollbackHealth",
        severity="critical",
        summary=f"{failures} health checks in a row have failed",
        about="health",
        channel="critical",
        chapter=f"{CHAPTER}: HEALTH_CHECK_FAILURE",
        missing="with fewer checks it does not fire; without checks: `MetricsMissing`",
        advice=CONTROLLER,
        action="rollback",
        quiet=True,
        more=(
            Case(
                title="so many failures in a row, and one fewer",
                series=UP | series,
                checks=((down + (failures - 2) * step, False), (down + (failures - 1) * step, True)),
                step=step,
            ),
            Case(
                title="one success between failures",
                series=UP | {'probe_success{job="health"}': " ".join(["1 " + "0 " * (failures - 1)] * 20).strip()},
                checks=tuple((n * step, False) for n in range(3 * failures)),
                step=step,
            ),
            Case(
                title="one failure, and then no more checks",
                series=UP | {'probe_success{job="health"}': "1 1 1 0 _x100"},
                checks=tuple((n * step, False) for n in range(4 if failures > 1 else 3)),
                step=step,
            ),
            *(
                Case(
                    title=f"{one.name} was {how}: what fails then and right after is not the release's",
                    series=UP | {'probe_success{job="health"}': steady(0), one.up: values},
                    checks=((10 * step, False), (blamed - step, False), (blamed, True)),
                    step=step,
                )
                for one in stores(monitoring)
                for how, values in (("away", stepwise((0, away), (1, 1000))), ("not measured", f"_x{away} {steady(1)}"))
            ),
        ),
    )


def _health_veto(monitoring: Monitoring) -> int:
    """Seconds in which no data service may have been away: those of the failed checks, and the grace period."""
    checks = (monitoring.triggers.health_failures + 1) * monitoring.health_seconds
    return checks + monitoring.triggers.data_grace_seconds


def failed_health(monitoring: Monitoring, after: str = "") -> _Failed:
    """The limit of failures within the window, and no success among as many checks: a check that waits for its timeout
    is read late, so no window contains exactly that many at every moment."""
    failures, every = monitoring.triggers.health_failures, monitoring.health_seconds
    checks, span = 'probe_success{job="health"}', f"{(failures + 1) * every}s"
    last_success = f"max_over_time((timestamp({checks}) * {checks})[{span}:1s])"
    return {
        "before": "max(",
        "measure": f"count_over_time({checks}[{span}]) - sum_over_time({checks}[{span}])",
        "operator": ">=",
        "limit": failures,
        "after": f"unless timestamp({checks}) - {last_success} < {(failures - 0.5) * every:g}) {after}".rstrip(),
    }


class _Failed(TypedDict):
    before: str
    measure: str
    operator: Literal[">="]
    limit: float
    after: str


def _attack(monitoring: Monitoring) -> Alert:
    attempts, span, step = (
        monitoring.triggers.sql_injection_attempts,
        monitoring.triggers.sql_injection_seconds,
        monitoring.scrape_seconds,
    )
    counter = 'shop_suspicious_requests_total{kind="sql_injection"}'
    metric = 'shop_suspicious_requests_total{kind="sql_injection",instance="%s"}'
    sourced = 'shop_suspicious_requests_total{kind="sql_injection",instance="%s",source="%s"}'
    half, rest = attempts // 2, attempts - attempts // 2
    return Alert(
        name="SqlInjection",
        measure=happened_from_one_source(monitoring, counter, SQL_INJECTION, span),
        operator=">=",
        limit=attempts,
        severity="critical",
        summary=f"{attempts} requests or more from one source tried SQL injection within {span} s",
        about="attack",
        channel="security",
        chapter=f'{CHAPTER}: SECURITY_BREACH; "Alertes Critiques": SECURITY_INCIDENT',
        missing="without counted events it does not fire; without metrics: `MetricsMissing`",
        advice="the rollback controller locks down automatically (`runbook security status`); find the source with "
        "`kubectl logs`, then `runbook security unlock`",
        value=NUMBER,
        action="lockdown",
        more=(
            Case(
                title="so many attempts, on two pods",
                series={metric % "a": stepwise((0, 5), (half, 1000)), metric % "b": stepwise((3, 5), (3 + rest, 1000))},
                checks=((4 * step, False), (5 * step, True), (5 * step + ceil(span / step) * step, False)),
                step=step,
                value=str(attempts),
            ),
            Case(
                title="one attempt fewer",
                series={metric % "a": stepwise((0, 5), (attempts - 1, 1000))},
                checks=((5 * step, False), (6 * step, False)),
                step=step,
            ),
            Case(
                title="so many attempts, and a restart of the container between them",
                series={metric % "a": stepwise((0, 5), (half, 5), (0, 5), (rest, 1000))},
                checks=((14 * step, False), (16 * step, True)),
                step=step,
                value=str(attempts),
            ),
            Case(
                title="more attempts together, but one fewer from each source",
                series={
                    sourced % ("a", 1): stepwise((0, 5), (half, 1000)),
                    sourced % ("b", 1): stepwise((0, 5), (rest - 1, 1000)),
                    sourced % ("a", 2): stepwise((0, 5), (attempts - 1, 1000)),
                },
                checks=((5 * step, False), (6 * step, False)),
                step=step,
            ),
            Case(
                title="so many attempts from one source, on two pods",
                series={
                    sourced % ("a", 1): stepwise((0, 5), (half, 1000)),
                    sourced % ("b", 1): stepwise((0, 5), (rest, 1000)),
                    sourced % ("a", 2): stepwise((0, 5), (attempts - 1, 1000)),
                },
                checks=((4 * step, False), (5 * step, True)),
                step=step,
                value=str(attempts),
            ),
            *logged_cases(monitoring, metric % "a", SQL_INJECTION, attempts),
        ),
    )
