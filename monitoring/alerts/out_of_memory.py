"""Containers that the kernel killed at their memory limit.

cAdvisor counts kills of a container's processes. When the first one is killed, the counter ends with the container and
is not scraped again: kube-state-metrics says why the container ended.
"""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Case, steady, stepwise
from monitoring.alerts.rule import Alert
from settings.monitoring import Monitoring

_STEP, _AT = 60, 900
_LABELS = {"pod": "backend-1", "container": "backend"}
_ONE = 'pod="backend-1",container="backend"'
_BY = "by (pod, container)"
_KILLS, _RESTARTS = "container_oom_events_total", "kube_pod_container_status_restarts_total"
_REASON = "kube_pod_container_status_last_terminated_reason"
_ONCE = stepwise((0, 12), (1, 100))


def out_of_memory(monitoring: Monitoring) -> Alert:
    found = monitoring.infrastructure
    counted = f'sum {_BY} (increase({_KILLS}{{container!=""}}[10m]))'
    ended = (
        f"(sum {_BY} (increase({_RESTARTS}{{}}[10m])) and on (pod, container) "
        f'max {_BY} ({_REASON}{{reason="OOMKilled"}}) == 1)'
    )
    # A count of 0 must not hide the other source.
    both = f"({counted} != 0 or {ended} or {counted})"
    return Alert(
        name="ContainerOutOfMemory",
        measure=(both if found.kube_state else counted) if found.kubelet else ended,
        operator=">",
        severity="critical",
        summary="{{ $labels.pod }} ({{ $labels.container }}) was killed: it reached its memory limit",
        about="memory",
        channel="alerts",
        chapter="Runbook de Production §6: métriques infra (CPU, RAM, I/O)",
        missing="without kube-state-metrics it does not fire for the first process of a container; without containers: "
        "`MetricsMissing`",
        advice="raise the limit, or find a leak since the last release",
        more=(*(_counted() if found.kubelet else ()), *(_ended() if found.kube_state else ())),
    )


def _counted() -> tuple[Case, ...]:
    kills = f"{_KILLS}{{{_ONE}}}"
    return (
        _case("one of its processes was killed", {kills: _ONCE}, fires=True),
        _case("one was killed long ago", {kills: steady(1)}, fires=False),
    )


def _ended() -> tuple[Case, ...]:
    restarts = f"{_RESTARTS}{{{_ONE}}}"
    killed, failed = (f'{_REASON}{{{_ONE},reason="{reason}"}}' for reason in ("OOMKilled", "Error"))
    return (
        _case("its first process was killed", {restarts: _ONCE, killed: _ONCE}, fires=True),
        _case(
            "while kube-state-metrics is replaced",
            {f'{name[:-1]},instance="{pod}"}}': _ONCE for name in (restarts, killed) for pod in "ab"},
            fires=True,
        ),
        _case("it ended for another reason", {restarts: _ONCE, failed: _ONCE}, fires=False),
        _case("it was killed long ago", {restarts: steady(1), killed: steady(1)}, fires=False),
    )


def _case(title: str, series: dict[str, str], *, fires: bool) -> Case:
    return Case(title=title, series=series, checks=((_AT, fires),), step=_STEP, labels=_LABELS if fires else {})
