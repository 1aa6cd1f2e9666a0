"""Burn rates of the error budget over several windows (method of the SRE workbook, numbers of Sloth)."""

from __future__ import annotations

from monitoring.alerts.counters import rise_between
from monitoring.alerts.promtool_cases import Case, rising, steady, stepwise
from monitoring.alerts.requests import BAD, counted, requests
from monitoring.alerts.rule import Alert, Domain, Recording
from settings.monitoring import Burn, Monitoring

REQUESTS, ERRORS = "slo:requests:rate30s", "slo:errors:rate30s"
EVERY = 30
"""Seconds between two records: windows of days need no more."""


def slo(monitoring: Monitoring) -> Domain:
    metric = "http_request_duration_seconds_count"
    everything = f"sum({rise_between(metric + counted(monitoring), EVERY)}) / {EVERY}"
    errors = counted(monitoring, 'status=~"5.."')
    failed = f"sum({rise_between(metric + errors, EVERY)}) / {EVERY}"
    return Domain(
        name="slo",
        title="Error budget",
        every=EVERY,
        recordings=(
            Recording(record=REQUESTS, expr=everything),
            # Without an error there are 0 errors: a gap would not count as good.
            Recording(record=ERRORS, expr=f"{failed} or 0 * ({everything})"),
        ),
        alerts=tuple(_burning(monitoring, burn) for burn in monitoring.slo.burns),
    )


def ratio(span: int) -> str:
    """Part of the requests that failed."""
    return f"sum_over_time({ERRORS}{{}}[{span}s]) / sum_over_time({REQUESTS}{{}}[{span}s])"


def failures(span: int) -> str:
    """How many requests failed."""
    return f"{EVERY} * sum_over_time({ERRORS}{{}}[{span}s])"


def alert_name(burn: Burn) -> str:
    return f"ErrorBudgetBurns{_spoken(burn.long_seconds)}"


def _burning(monitoring: Monitoring, burn: Burn) -> Alert:
    slo, factor = monitoring.slo, monitoring.slo.factor(burn)
    limit = float(f"{factor * slo.budget:.9g}")
    long, short = _spoken(burn.long_seconds), _spoken(burn.short_seconds)
    step = burn.short_seconds // 5
    steps = burn.long_seconds // step

    def recorded(*errors: float | tuple[float, int]) -> dict[str, str]:
        scaled = (each * 1000 if isinstance(each, int | float) else (each[0] * 1000, each[1]) for each in errors)
        return {REQUESTS: steady(1000), ERRORS: stepwise(*scaled)}

    return Alert(
        name=alert_name(burn),
        measure=ratio(burn.long_seconds),
        operator=">",
        limit=limit,
        after=f"and {ratio(burn.short_seconds)} > {limit:.9g} and {failures(burn.long_seconds)} >= {slo.least_errors}",
        severity="critical" if burn.page else "warning",
        summary=f"{burn.budget_percent:g} % of the error budget of {slo.window_days} days was used within {long}, and "
        "errors continue",
        about="budget",
        channel="critical" if burn.page else "alerts",
        chapter='Runbook de Production §6; the SRE workbook, "Alerting on SLOs"',
        missing=f"without requests it does not fire; a history shorter than {long} counts as it is; without metrics: "
        "`MetricsMissing`",
        advice="the dashboard `Service level` shows since when and on which routes",
        value="{{ $value | humanizePercentage }}",
        quiet=True,
        more=(
            Case(
                title="just above the limit in both windows",
                series=recorded((1.01 * limit, 2 * steps)),
                checks=((burn.long_seconds + 2 * step, True),),
                step=step,
                value=_percentage(1.01 * limit),
            ),
            Case(
                title="just below it",
                series=recorded((0.99 * limit, 2 * steps)),
                checks=((burn.long_seconds + 2 * step, False),),
                step=step,
            ),
            Case(
                title=f"over: nothing has failed for {short}",
                series=recorded((1, steps + 2), (0, steps)),
                checks=((burn.long_seconds + burn.short_seconds + 3 * step, False),),
                step=step,
            ),
            Case(
                title=f"short: errors for {short}, too few within {long}",
                series=recorded((0, 2 * steps), (min(1, 1.5 * limit), 100)),
                checks=((2 * steps * step + burn.short_seconds, False),),
                step=step,
            ),
            *(
                (
                    Case(
                        title="from the requests themselves",
                        series=requests(BAD, good=1000 * (1 - limit) - 1, bad=1000 * limit + 1),
                        checks=((20 * EVERY, True),),
                        step=EVERY,
                        value=_percentage(limit + 0.001),
                    ),
                    *(
                        Case(
                            title=f"{few} errors and nothing else within {long}",
                            series={
                                f'http_request_duration_seconds_count{{route="/shop",status="500",{BAD}}}': f"0+0x5 "
                                f"0+1x{few} {steady(few)}",
                            },
                            checks=((20 * EVERY, fires),),
                            step=EVERY,
                            value="100%" if fires else "",
                        )
                        for few, fires in ((slo.least_errors - 1, False), (slo.least_errors, True))
                    ),
                    Case(
                        title="scraped every minute",
                        series={
                            f'http_request_duration_seconds_count{{route="/shop",status="{status}",{BAD}}}': " ".join(
                                f"{each * (place // 2)}" for place in range(60)
                            )
                            for status, each in (("200", 900), ("500", 100))
                        },
                        checks=((20 * EVERY, True),),
                        step=EVERY,
                        value="10%",
                    ),
                    Case(
                        title="requests without an error",
                        series={f'http_request_duration_seconds_count{{route="/shop",status="200",{BAD}}}': rising(9)},
                        checks=((20 * EVERY, False),),
                        step=EVERY,
                    ),
                )
                if burn == slo.burns[0]
                else ()
            ),
        ),
    )


def _percentage(part: float) -> str:
    """As Prometheus has it."""
    return f"{100 * part:.4g}%"


def _spoken(span: int) -> str:
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if span % size == 0:
            return f"{span // size}{letter}"
    return f"{span}s"
