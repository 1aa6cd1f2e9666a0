"""The rollback trigger on restarts: a process that dies of a request has counted no error.

Restarts are those of containers in their pods; a rollout makes new pods. The processes themselves export when they
started; kube-state-metrics, where the cluster has it, also knows of processes that die before they are scraped.
"""

from __future__ import annotations

from collections.abc import Iterable

from monitoring.alerts.promtool_cases import Case, steady, stepwise
from monitoring.alerts.requests import ACCUSED, BAD, BY
from monitoring.alerts.rule import COUNT, Alert
from monitoring.alerts.trigger import CHAPTER, UP, stores, unless_away
from settings.monitoring import Monitoring

_STARTED, _RESTARTS = "process_start_time_seconds", "kube_pod_container_status_restarts_total"


def restarts(monitoring: Monitoring, services: Iterable[str]) -> Alert:
    triggers = monitoring.triggers
    limit, window = triggers.restarts, triggers.restart_seconds
    names = "|".join(services)
    # A pod that restarted once was on a node that did. The operator's jobs are named namespace/name.
    changes = f'changes({_STARTED}{{job=~"(.+/)?({names})"}}[{window}s])'
    own = f"sum {BY} ({changes} > 1)"
    container = f'{_RESTARTS}{{container=~"{names}"}}[{window}s]'
    # While kube-state-metrics is replaced, both of its pods have each series.
    known = (
        f"sum((max by (pod, container) (max_over_time({container})) - "
        f"min by (pod, container) (min_over_time({container}))) > 1)"
    )
    # Few that the processes export must not hide those before their first scrape.
    both = f"({own} >= {limit} or on () {known} or {own})"
    return Alert(
        name="RollbackRestarts",
        measure=both if monitoring.infrastructure.kube_state else own,
        operator=">=",
        limit=limit,
        shown=changes,
        after=unless_away(monitoring, window + triggers.data_grace_seconds),
        severity="critical",
        summary=f"{limit} or more restarts of the services' containers within {window} s",
        about="restarts",
        channel="critical",
        chapter=f"{CHAPTER}: HEALTH_CHECK_FAILURE, of each process",
        missing="without process_start_time_seconds and kube-state-metrics it does not fire; without a pod: "
        "`RollbackHealth`",
        advice="`kubectl logs --previous` shows why the process ended; `runbook history`, what the controller did",
        value=COUNT,
        action="rollback",
        quiet=True,
        more=(
            *_of_processes(monitoring, next(iter(services), "")),
            *(_of_containers(monitoring, next(iter(services), "")) if monitoring.infrastructure.kube_state else ()),
        ),
    )


def _of_processes(monitoring: Monitoring, service: str) -> tuple[Case, ...]:
    limit, step = monitoring.triggers.restarts, monitoring.evaluation_seconds
    window = monitoring.triggers.restart_seconds // step

    def process(pod: int, times: int, *, apart: int = 2) -> dict[str, str]:
        started = stepwise(*((1000 + 10 * life, apart) for life in range(times)), (1000 + 10 * times, 1000))
        return {f'{_STARTED}{{job="{service}",instance="{pod}",{BAD}}}': started}

    def case(title: str, series: dict[str, str], *, fires: bool, more: tuple[tuple[int, bool], ...] = ()) -> Case:
        at = 2 * limit * step
        return Case(
            title=title,
            series=UP | series,
            checks=((at - step, False), (at, fires), *((at + moment * step, state) for moment, state in more)),
            step=step,
            labels=ACCUSED if fires else {},
            value=str(limit) if fires else "",
        )

    once = {name: values for pod in range(4 * limit) for name, values in process(pod, 1).items()}
    other = {f'{_STARTED}{{job="postgres",instance="1"}}': " ".join(str(number) for number in range(100))}
    return (
        case("a process that dies again and again", process(1, limit), fires=True, more=((window, False),)),
        case("one restart fewer", process(1, limit - 1), fires=False),
        case("the restarts of an exporter", other, fires=False),
        case("each pod of a node that was started again", once, fires=False),
        *(
            case(
                f"while {one.name} is away, which ends a process", process(1, limit) | {one.up: steady(0)}, fires=False
            )
            for one in stores(monitoring)[:1]
        ),
    )


def _of_containers(monitoring: Monitoring, service: str) -> tuple[Case, ...]:
    limit, step = monitoring.triggers.restarts, monitoring.evaluation_seconds
    name = f'{_RESTARTS}{{pod="{service}-1",container="{service}"}}'
    two = {
        f'{_RESTARTS}{{pod="{service}-1",container="{service}",instance="{instance}"}}': values
        for instance, values in (("a", f"{limit - 1}+0x20 stale"), ("b", f"_x10 {limit - 1}+0x1000"))
    }
    return (
        Case(
            title="a container that ends before it is scraped",
            series=UP | {name: stepwise((4, 5), (4 + limit - 1, 1), (4 + limit, 1000))},
            checks=((5 * step, False), (6 * step, True)),
            step=step,
            value=str(limit),
        ),
        Case(
            title="kube-state-metrics was replaced",
            series=UP | two,
            checks=((10 * step, False), (15 * step, False), (25 * step, False)),
            step=step,
        ),
    )
