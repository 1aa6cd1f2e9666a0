"""The runbook's rollback triggers (HerbisVeritas "Triggers Rollback Automatique").

Where the metrics have the labels `release` and `git`, the alert has them too. None of the three alerts that roll a
release back fires while the database or Redis is down, shortly after, or while their state is unknown: an older release
would not repair them.
"""

from __future__ import annotations

from math import ceil
from typing import Literal, TypedDict

from monitoring.alerts.events import happened_from_one_source, logged_cases
from monitoring.alerts.promtool_cases import Boundary, Case, fires, rising, steady, stepwise
from monitoring.alerts.requests import (
    ACCUSED,
    BAD,
    counted,
    enough_requests,
    error_boundary,
    error_percent,
    requests,
    too_few_requests,
)
from monitoring.alerts.rule import COUNT, PERCENT, Alert, Domain
from settings.logs import SQL_INJECTION
from settings.monitoring import Monitoring

_CHAPTER = 'HerbisVeritas "Triggers Rollback Automatique"'
_CONTROLLER = "`runbook history` shows what the rollback controller did; if it did nothing: `runbook rollback`"
_UP = {"pg_up": steady(1), "redis_up": steady(1)}
"""Where a stack has no Redis, its series are there and nothing asks for them."""


def triggers(monitoring: Monitoring) -> Domain:
    return Domain(
        name="triggers",
        title="Rollback triggers",
        every=monitoring.evaluation_seconds,
        alerts=(_errors(monitoring), _response(monitoring), _health(monitoring), _attack(monitoring)),
    )


def _errors(monitoring: Monitoring) -> Alert:
    limit, lasting, step = (
        monitoring.triggers.error_rate_percent,
        monitoring.triggers.error_rate_seconds,
        monitoring.scrape_seconds,
    )
    return Alert(
        name="RollbackErrorRate",
        measure=error_percent(monitoring),
        operator=">",
        limit=limit,
        after=f"{enough_requests(monitoring, lasting)} {_not_the_data(monitoring)}",
        lasting=lasting,
        severity="critical",
        summary=f"more than {limit:g} % of the answers of release {{{{ $labels.release }}}} are errors",
        about="errors",
        channel="critical",
        chapter=f"{_CHAPTER}: ERROR_RATE_CRITICAL",
        missing="without requests it does not fire; without metrics: `MetricsMissing`; without a pod: `RollbackHealth`",
        advice=_CONTROLLER,
        value=PERCENT,
        action="rollback",
        quiet=True,
        boundary=error_boundary(monitoring, limit),
        more=(
            too_few_requests(monitoring, lasting),
            *_blameless(monitoring, requests(BAD, good=500, bad=500), lasting, step, ACCUSED, "50.0 %"),
        ),
    )


def _response(monitoring: Monitoring) -> Alert:
    triggers, step = monitoring.triggers, monitoring.scrape_seconds
    limit, quantile, lasting = triggers.response_milliseconds, triggers.response_quantile, triggers.response_seconds
    buckets = f"http_request_duration_seconds_bucket{counted(monitoring)}[{triggers.rate_seconds}s]"
    slow = _durations(monitoring, quantile - 0.01)
    shown = f"{limit * (1 + 0.01 / (1.01 - quantile)):.0f} ms"
    return Alert(
        name="RollbackResponseTime",
        measure=f"1000 * histogram_quantile({quantile:g}, sum by (release, git, le) (rate({buckets})))",
        operator=">",
        limit=limit,
        after=f"{enough_requests(monitoring, lasting)} {_not_the_data(monitoring)}",
        lasting=lasting,
        severity="critical",
        summary=f"over {100 * (1 - quantile):g} % of release {{{{ $labels.release }}}}'s answers take over {limit} ms",
        about="response",
        channel="critical",
        chapter=f"{_CHAPTER}: RESPONSE_TIME_CRITICAL",
        missing="without requests it does not fire; no metrics: `MetricsMissing`; no answers: `RollbackHealth`",
        advice=_CONTROLLER,
        value='{{ $value | printf "%.0f" }} ms',
        action="rollback",
        quiet=True,
        boundary=Boundary(
            beyond=_UP | slow,
            within=_UP | _durations(monitoring, quantile),
            step=step,
            since=step,
            labels=ACCUSED,
            value=shown,
        ),
        more=(*_blameless(monitoring, slow, lasting, step, ACCUSED, shown),),
    )


def _durations(monitoring: Monitoring, fast: float) -> dict[str, str]:
    """Answers of which this part is within the limit, and the rest above it."""
    limit = monitoring.triggers.response_milliseconds / 1000
    buckets = {f"{limit / 2:g}": 500.0, f"{limit:g}": 1000 * fast, f"{2 * limit:g}": 1000.0, "+Inf": 1000.0}
    series = {
        f'http_request_duration_seconds_bucket{{route="/shop",{BAD},le="{le}"}}': rising(round(count, 6))
        for le, count in buckets.items()
    }
    machines = {
        f'http_request_duration_seconds_bucket{{route="/api/live",{BAD},le="{le}"}}': rising(100_000) for le in buckets
    }
    return series | machines | requests(BAD, good=1000, bad=0)


def _health(monitoring: Monitoring) -> Alert:
    failures, step = monitoring.triggers.health_failures, monitoring.health_seconds
    series = {'probe_success{job="health"}': stepwise((1, 5), (0, 1000))}
    down = 5 * step
    return Alert(
        **failed_health(monitoring, _not_the_data(monitoring)),
        name="RollbackHealth",
        severity="critical",
        summary=f"{failures} health checks in a row have failed",
        about="health",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE",
        missing="with fewer checks it does not fire; without checks: `MetricsMissing`",
        advice=_CONTROLLER,
        action="rollback",
        quiet=True,
        more=(
            Case(
                title="so many failures in a row, and one fewer",
                series=_UP | series,
                checks=((down + (failures - 2) * step, False), (down + (failures - 1) * step, True)),
                step=step,
            ),
            Case(
                title="one success between failures",
                series=_UP | {'probe_success{job="health"}': " ".join(["1 " + "0 " * (failures - 1)] * 20).strip()},
                checks=tuple((n * step, False) for n in range(3 * failures)),
                step=step,
            ),
            Case(
                title="one failure, and then no more checks",
                series=_UP | {'probe_success{job="health"}': "1 1 1 0 _x100"},
                checks=tuple((n * step, False) for n in range(4 if failures > 1 else 3)),
                step=step,
            ),
            *_blameless(monitoring, {'probe_success{job="health"}': steady(0)}, 0, step * (failures - 1), {}, "", step),
        ),
    )


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
        chapter=f'{_CHAPTER}: SECURITY_BREACH; "Alertes Critiques": SECURITY_INCIDENT',
        missing="without counted events it does not fire; without metrics: `MetricsMissing`",
        advice="the rollback controller locks down automatically (`runbook security status`); find the source with "
        "`kubectl logs`, then `runbook security unlock`",
        value=COUNT,
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


def _not_the_data(monitoring: Monitoring) -> str:
    # Scrapes have no order: one failed scrape within the grace period is enough.
    span = f"{monitoring.triggers.data_grace_seconds + 2 * monitoring.scrape_seconds}s"
    # If a server drops every packet, its exporter reports nothing. The third failed check comes later.
    silence = f"{2 * monitoring.scrape_seconds}s"
    down = " or ".join(
        f"min_over_time({up}{{}}[{span}]) == 0 or absent_over_time({up}{{}}[{silence}])"
        for _, up in _data_services(monitoring)
    )
    return f"unless on () ({down})"


def _data_services(monitoring: Monitoring) -> tuple[tuple[str, str], ...]:
    """What no older release repairs, and the series that says whether it is up."""
    return (("the database", "pg_up"), *([("Redis", "redis_up")] if monitoring.redis else []))


def _blameless(
    monitoring: Monitoring,
    series: dict[str, str],
    lasting: int,
    since: int,
    labels: dict[str, str],
    value: str,
    step: int | None = None,
) -> tuple[Case, ...]:
    """The same failures while a data service is down, and some time after it is up again."""
    step = step or monitoring.scrape_seconds
    back = ceil((since + lasting) / step + 10) * step
    settled = back - step + monitoring.triggers.data_grace_seconds + 2 * monitoring.scrape_seconds
    services = _data_services(monitoring)
    away = (
        Case(
            title=f"{name} was down: the release is not blamed until the grace period has passed",
            series=series | _UP | {metric: stepwise((0, back // step), (1, 1000))},
            checks=((back, False), *fires(lasting, since=(settled // step + 1) * step, step=step)),
            step=step,
            labels=labels,
            value=value,
        )
        for name, metric in services
    )
    unknown = (
        Case(
            title=f"the state of {name} is unknown: the release is not blamed",
            series=series | _UP | {metric: f"_x{back // step} {steady(1)}"},
            checks=((back - step, False), *fires(lasting, since=back, step=step)),
            step=step,
            labels=labels,
            value=value,
        )
        for name, metric in services
    )
    return (*away, *unknown)
