"""Security events in PromQL: as the application counts them or, where it counts none of the kind, as its log says."""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Case, stepwise
from settings.monitoring import Monitoring


def happened(monitoring: Monitoring, counter: str, event: str, span: int) -> str:
    """How often within so many seconds, on all pods together. Nothing counts twice: where there is the application's
    own number, it is the only one."""
    own = f"sum({exactly(counter, span)})"
    return f"({own} or sum({exactly(_logged(event), span)}))" if _looked_for(monitoring, event) else own


def exactly(counter: str, span: int) -> str:
    """How much a counter went up. increase() estimates, and makes more of few events on a young pod than there were;
    where a container was started again within the window, its estimate is the best there is."""
    window = f"{counter}[{span}s]"
    gone_up = f"max_over_time({window}) - min_over_time({window}) and resets({window}) == 0"
    return f"({gone_up}) or increase({window})"


def logged_cases(monitoring: Monitoring, counter: str, event: str, limit: int) -> tuple[Case, ...]:
    """The log alone, and beside it the application's own number; `counter` is one of its series."""
    if not _looked_for(monitoring, event):
        return ()
    step, first = monitoring.scrape_seconds, limit // 2
    other = next(name for name in ("sql_injection", "refused_login") if name != event)

    def logged(count: int, pod: str, of: str = event) -> dict[str, str]:
        return {f'runbook_log_events_total{{event="{of}",pod="{pod}"}}': stepwise((3, 5), (3 + count, 1000))}

    return (
        Case(
            title="so many in the logs of two pods, of an application without a metric",
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
            title="so many in the logs and in the metric: told once",
            series={counter: stepwise((0, 5), (limit, 1000)), **logged(limit, "a")},
            checks=((4 * step, False), (5 * step, True)),
            step=step,
            value=str(limit),
        ),
        Case(
            title="one fewer in the metric, and the same in the logs: nothing is added up",
            series={counter: stepwise((0, 5), (limit - 1, 1000)), **logged(limit - 1, "a")},
            checks=((4 * step, False), (6 * step, False)),
            step=step,
        ),
    )


def _logged(event: str) -> str:
    return f'runbook_log_events_total{{event="{event}"}}'


def _looked_for(monitoring: Monitoring, event: str) -> bool:
    return monitoring.logs is not None and event in monitoring.logs.events
