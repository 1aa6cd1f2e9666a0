"""Security events in PromQL: counted by the application or, where it has no such metric, in its log."""

from __future__ import annotations

from monitoring.alerts.counters import rise_within
from monitoring.alerts.promtool_cases import Case, stepwise
from settings.monitoring import Monitoring


def happened(monitoring: Monitoring, counter: str, event: str, span: int) -> str:
    """Events within the window, on all pods together. Nothing counts twice: where the application has a metric, the log
    does not count."""
    own = f"sum({rise_within(counter, span)})"
    return f"({own} or sum({rise_within(_logged(event), span)}))" if _counts_logs(monitoring, event) else own


def happened_from_one_source(monitoring: Monitoring, counter: str, event: str, span: int) -> str:
    """The events of the worst source within the window, on all pods together. `source` is a label that groups clients;
    without it, all of them count as one."""
    own = f"max(sum by (source) ({rise_within(counter, span)}))"
    logged = f"max(sum by (source) ({rise_within(_logged(event), span)}))"
    return f"({own} or {logged})" if _counts_logs(monitoring, event) else own


def logged_cases(monitoring: Monitoring, counter: str, event: str, limit: int) -> tuple[Case, ...]:
    """The log alone, and together with the application's metric; `counter` is one of its series."""
    if not _counts_logs(monitoring, event):
        return ()
    step, first = monitoring.scrape_seconds, limit // 2
    other = next(name for name in ("sql_injection", "refused_login") if name != event)

    def logged(count: int, pod: str, of: str = event) -> dict[str, str]:
        return {f'runbook_log_events_total{{event="{of}",pod="{pod}"}}': stepwise((3, 5), (3 + count, 1000))}

    return (
        Case(
            title="the limit in the logs of two pods, of an application without a metric",
            series=logged(first, "a") | logged(limit - first, "b") | logged(7 * limit, "b", other),
            checks=((4 * step, False), (5 * step, True)),
            step=step,
            value=str(limit),
        ),
        Case(
            title="one fewer in the logs, and many of another kind",
            series=logged(first, "a") | logged(limit - 1 - first, "b") | logged(7 * limit, "b", other),
            checks=((4 * step, False), (6 * step, False)),
            step=step,
        ),
        Case(
            title="the limit in the logs and in the metric: counted once",
            series={counter: stepwise((0, 5), (limit, 1000)), **logged(limit, "a")},
            checks=((4 * step, False), (5 * step, True)),
            step=step,
            value=str(limit),
        ),
        Case(
            title="one fewer in the metric, and the same in the logs: no sum",
            series={counter: stepwise((0, 5), (limit - 1, 1000)), **logged(limit - 1, "a")},
            checks=((4 * step, False), (6 * step, False)),
            step=step,
        ),
    )


def _logged(event: str) -> str:
    return f'runbook_log_events_total{{event="{event}"}}'


def _counts_logs(monitoring: Monitoring, event: str) -> bool:
    return monitoring.logs is not None and event in monitoring.logs.events
