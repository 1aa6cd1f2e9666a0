"""Budgets of the pages that serve (HerbisVeritas "Performance Budgets"). The metrics are read from the results that are
kept: one of a machine that was too busy counts as none."""

from __future__ import annotations

from typing import Any

from monitoring.alerts.promtool_cases import Boundary, steady
from monitoring.alerts.rule import Alert, Domain
from settings.performance import PageCheck, Performance

NAME = "pages"
EVERY = 60
_STEP = 60
_FULL = 100
_USED, _MEASURED = "runbook_page_budget_percent", "runbook_page_measured_timestamp_seconds"


def pages(performance: Performance, check: PageCheck) -> Domain:
    return Domain(
        name=NAME,
        title="Pages",
        every=EVERY,
        alerts=(_over_budget(performance), _missed(performance, check.missed_seconds)),
    )


_COMMON: dict[str, Any] = {
    "chapter": 'HerbisVeritas "Performance Budgets"',
    "missing": "without the exporter: `BackupExporterAway`",
    "severity": "warning",
    "channel": "performance",
}


def _over_budget(performance: Performance) -> Alert:
    example = {
        "path": performance.routes[0].path,
        "metric": "lcp",
        "worst": "Largest Contentful Paint; most to gain: Reduce unused JavaScript",
        "revision": "7",
        "git": "3c3b39f",
    }
    labels = ",".join(f'{name}="{value}"' for name, value in example.items())
    series = f"{_USED}{{{labels}}}"
    return Alert(
        name="PageOverBudget",
        measure=f"{_USED}{{}}",
        operator=">",
        limit=_FULL,
        value='{{ $value | printf "%.0f" }} % of the budget',
        summary="{{ $labels.path }} does not keep its budget of {{ $labels.metric }} in release {{ $labels.revision }} "
        "({{ $labels.git }}). Worst: {{ $labels.worst }}",
        about="page-budget",
        advice="`runbook performance pages --html pages.html` shows since which release; `--reports DIR` writes "
        "Lighthouse's own reports of the last check",
        boundary=Boundary(
            beyond={series: steady(_FULL + 1)},
            within={series: steady(_FULL)},
            step=_STEP,
            labels=example,
            value=f"{_FULL + 1} % of the budget",
        ),
        **_COMMON,
    )


def _missed(performance: Performance, limit: int) -> Alert:
    example = {"path": performance.routes[0].path}
    series = f'{_MEASURED}{{path="{example["path"]}"}}'

    def aged(seconds: int) -> str:
        return f"{-seconds}+{_STEP}x1000"

    return Alert(
        name="PageCheckMissed",
        measure=f"time() - {_MEASURED}{{}}",
        operator=">",
        limit=limit,
        # Also 0: a page that was never measured.
        lasting=limit,
        summary=f"{{{{ $labels.path }}}} has not been measured for {2 * limit // 60} min: no check ran, the machine "
        "was too busy, or the page gave no answer",
        about="page-check",
        advice="`runbook performance pages` shows which of these; is the CronJob `page-check` suspended, or refused by "
        "a quota? For a machine that is always too busy, another node, or `performance.leastBenchmark`",
        boundary=Boundary(beyond={series: aged(limit + 1)}, within={series: aged(limit)}, step=_STEP, labels=example),
        **_COMMON,
    )
