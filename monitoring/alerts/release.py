"""The runbook's rollback triggers (HerbisVeritas "Triggers Rollback Automatique").

Where the metrics tell which release it is, its labels `release` and `git` are the alert's. None of the three that
take a release back fires while the database or Redis is away, nor shortly after, nor while nobody can say whether they
are: an older release would not bring them back.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil

from monitoring.alerts.events import happened, logged_cases
from monitoring.alerts.promtool_cases import Case, fires, never, rising, steady, stepwise
from monitoring.alerts.requests import ACCUSED, BAD, counted, enough_requests, error_cases, error_percent, requests
from monitoring.alerts.rule import Alert, Domain, seconds
from settings.logs import SQL_INJECTION
from settings.monitoring import Monitoring

_CHAPTER = 'HerbisVeritas "Triggers Rollback Automatique"'
_CONTROLLER = "see what the controller did (`runbook history`); if nothing, `runbook rollback`"
_UP = {"pg_up": steady(1), "redis_up": steady(1)}


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
        "RollbackErrorRate",
        f"{error_percent(monitoring)} > {limit:g} {enough_requests(monitoring, lasting)} {_not_the_data(monitoring)}",
        timedelta(seconds=lasting),
        "critical",
        f"more than {limit:g} % of the answers of release {{{{ $labels.release }}}} are errors",
        about="errors",
        channel="critical",
        chapter=f"{_CHAPTER}: ERROR_RATE_CRITICAL",
        missing="no requests are no errors; no metrics at all: `MetricsMissing`; no pod: `RollbackHealth`",
        advice=_CONTROLLER,
        value='{{ $value | printf "%.1f" }} %',
        action="rollback",
        quiet=True,
        cases=(
            *error_cases(monitoring, limit, lasting),
            *_blameless(monitoring, requests(BAD, good=500, bad=500), lasting, step, ACCUSED, "50.0 %"),
        ),
    )


def _response(monitoring: Monitoring) -> Alert:
    triggers, step = monitoring.triggers, monitoring.scrape_seconds
    limit, quantile, lasting = triggers.response_milliseconds, triggers.response_quantile, triggers.response_seconds
    buckets = f"http_request_duration_seconds_bucket{counted(monitoring)}[{seconds(triggers.rate_seconds)}]"
    slow = _durations(monitoring, quantile - 0.01)
    told = f"{limit * (1 + 0.01 / (1.01 - quantile)):.0f} ms"
    return Alert(
        "RollbackResponseTime",
        f"1000 * histogram_quantile({quantile:g}, sum by (release, git, le) (rate({buckets}))) > {limit} "
        f"{enough_requests(monitoring, lasting)} {_not_the_data(monitoring)}",
        timedelta(seconds=lasting),
        "critical",
        f"more than {100 * (1 - quantile):g} % of release {{{{ $labels.release }}}}'s answers take over {limit} ms",
        about="response",
        channel="critical",
        chapter=f"{_CHAPTER}: RESPONSE_TIME_CRITICAL",
        missing="no requests are not slow; no metrics at all: `MetricsMissing`; no answers at all: `RollbackHealth`",
        advice=_CONTROLLER,
        value='{{ $value | printf "%.0f" }} ms',
        action="rollback",
        quiet=True,
        cases=(
            Case(
                title="just more slow answers than the quantile allows",
                series=_UP | slow,
                checks=fires(lasting, since=step, step=step),
                step=step,
                labels=ACCUSED,
                value=told,
            ),
            Case(
                title="as many slow answers as the quantile allows",
                series=_UP | _durations(monitoring, quantile),
                checks=never(lasting, since=step, step=step),
                step=step,
            ),
            *_blameless(monitoring, slow, lasting, step, ACCUSED, told),
        ),
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
        "RollbackHealth",
        f"{failed_health(monitoring, failures)} {_not_the_data(monitoring)}",
        timedelta(),
        "critical",
        f"{failures} health checks in a row have failed",
        about="health",
        channel="critical",
        chapter=f"{_CHAPTER}: HEALTH_CHECK_FAILURE",
        missing="fewer checks than that are no failure: `MetricsMissing` tells that nobody checks",
        advice=_CONTROLLER,
        action="rollback",
        quiet=True,
        cases=(
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


def failed_health(monitoring: Monitoring, failures: int) -> str:
    """So many failures within the window, and no success among as many readings: a check that waits for its timeout
    is read late, so that no window holds exactly so many at every moment."""
    every = monitoring.health_seconds
    checks, span = 'probe_success{job="health"}', f"{(failures + 1) * every}s"
    last_success = f"max_over_time((timestamp({checks}) * {checks})[{span}:1s])"
    return (
        f"max(count_over_time({checks}[{span}]) - sum_over_time({checks}[{span}]) >= {failures} "
        f"unless timestamp({checks}) - {last_success} < {(failures - 0.5) * every:g})"
    )


def _attack(monitoring: Monitoring) -> Alert:
    attempts, span, step = (
        monitoring.triggers.sql_injection_attempts,
        monitoring.triggers.sql_injection_seconds,
        monitoring.scrape_seconds,
    )
    counter = 'shop_suspicious_requests_total{kind="sql_injection"}'
    metric = 'shop_suspicious_requests_total{kind="sql_injection",instance="%s"}'
    half, rest = attempts // 2, attempts - attempts // 2
    return Alert(
        "SqlInjection",
        f"{happened(monitoring, counter, SQL_INJECTION, span)} >= {attempts}",
        timedelta(),
        "critical",
        f"{attempts} requests or more tried SQL injection within {span} s",
        about="attack",
        channel="security",
        chapter=f'{_CHAPTER}: SECURITY_BREACH; "Alertes Critiques": SECURITY_INCIDENT',
        missing="nothing was counted; no metrics at all: `MetricsMissing`",
        advice="the controller locks down by itself; see from where (`runbook logs`), then `runbook security unlock`",
        value='{{ $value | printf "%.0f" }}',
        action="lockdown",
        cases=(
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
                title="so many attempts, on a container that was started again between them",
                series={metric % "a": stepwise((0, 5), (half, 5), (0, 5), (rest, 1000))},
                checks=((14 * step, False), (16 * step, True)),
                step=step,
                value=str(attempts),
            ),
            *logged_cases(monitoring, metric % "a", SQL_INJECTION, attempts),
        ),
    )


def _not_the_data(monitoring: Monitoring) -> str:
    # Readings come in no order: one failed reading within the grace is enough.
    span = seconds(monitoring.triggers.data_grace_seconds + 2 * monitoring.scrape_seconds)
    # Of a server that swallows every packet its exporter says nothing at all. The third failed check comes later.
    silence = seconds(2 * monitoring.scrape_seconds)
    away = " or ".join(
        f"min_over_time({up}[{span}]) == 0 or absent_over_time({up}[{silence}])" for up in ("pg_up", "redis_up")
    )
    return f"unless on () ({away})"


def _blameless(
    monitoring: Monitoring,
    series: dict[str, str],
    lasting: int,
    since: int,
    labels: dict[str, str],
    value: str,
    step: int | None = None,
) -> tuple[Case, ...]:
    """The same failures while a data service is away, and once it has been back for a while."""
    step = step or monitoring.scrape_seconds
    back = ceil((since + lasting) / step + 10) * step
    settled = back - step + monitoring.triggers.data_grace_seconds + 2 * monitoring.scrape_seconds
    services = (("the database", "pg_up"), ("Redis", "redis_up"))
    away = (
        Case(
            title=f"{name} was away: not blamed on the release until it has been back for a while",
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
            title=f"nobody can say whether {name} is there: not blamed on the release until somebody can",
            series=series | _UP | {metric: f"_x{back // step} {steady(1)}"},
            checks=((back - step, False), *fires(lasting, since=back, step=step)),
            step=step,
            labels=labels,
            value=value,
        )
        for name, metric in services
    )
    return (*away, *unknown)
