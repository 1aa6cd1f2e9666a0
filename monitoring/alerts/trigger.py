"""What the rollback triggers share: when a failure is not the release's, and the sample metrics that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from monitoring.alerts.promtool_cases import Case, rising, steady, stepwise
from monitoring.alerts.requests import Step
from monitoring.alerts.rule import Recording
from settings.monitoring import Monitoring

CHAPTER = 'HerbisVeritas "Triggers Rollback Automatique"'
CONTROLLER = "`runbook history` shows what the rollback controller did; if it did nothing: `runbook rollback`"
UP = {"pg_up": steady(1), "redis_up": steady(1)}
"""Where a stack has no Redis, its series are there and nothing asks for them."""
AWAY = "triggers:data:away"
_FULL_SECONDS = 300
"""How long a server whose connections were used up is not taken as away."""
Samples = Callable[[str], Mapping[str, str]]
"""The metrics of a failing release, whose counters all have these values."""


class DataService(NamedTuple):
    """What no older release repairs."""

    name: str
    up: str
    """The series that says whether it is up."""
    used: str
    """Its connections in use."""
    most: float
    """From where on they are used up."""


def stores(monitoring: Monitoring) -> list[DataService]:
    """The data services of the stack."""
    found: list[DataService] = []
    if postgres := monitoring.postgres:
        used = "100 * sum(pg_stat_activity_count{}) / max(pg_settings_max_connections{})"
        found.append(DataService("the database", "pg_up", used, postgres.connections_percent))
    if redis := monitoring.redis:
        found.append(DataService("Redis", "redis_up", "max(redis_connected_clients{})", redis.connections))
    return found


def away_records(monitoring: Monitoring) -> tuple[Recording, ...]:
    """Has a value while the database or Redis is away, or its exporter reports nothing; none where there is no data
    service. An exporter that a server refuses although it is there, because a release holds its connections, is no
    reason to keep that release."""
    every, silence = monitoring.evaluation_seconds, 2 * monitoring.scrape_seconds
    down = " or ".join(
        f"(max({one.up}{{}}) == 0 unless on () "
        f"max_over_time(({one.used})[{_FULL_SECONDS}s:{every}s]) >= {one.most:.15g})"
        for one in stores(monitoring)
    )
    unknown = " or ".join(f"absent_over_time({one.up}{{}}[{silence}s])" for one in stores(monitoring))
    return (Recording(record=AWAY, expr=f"count({down} or {unknown})"),) if down else ()


def unless_away(monitoring: Monitoring, seconds: int) -> str:
    return f"unless on () count_over_time({AWAY}{{}}[{seconds}s])" if stores(monitoring) else ""


def steps(monitoring: Monitoring) -> Step:
    """Requests are counted when it is known whether a data service was away then, and not if it was."""
    notice = monitoring.notice_seconds
    return Step(
        domain="triggers",
        every=monitoring.evaluation_seconds,
        delay=notice,
        unless=unless_away(monitoring, notice + monitoring.triggers.data_grace_seconds),
    )


def blameless(
    monitoring: Monitoring, step: Step, failing: Samples, value: str, labels: Mapping[str, str]
) -> tuple[Case, ...]:
    """The failures while a data service is away, right after, and before, and while a release holds connections."""
    every, away = step.every, 12
    counted = (step.delay // every + (step.delay % every > 0)) * every
    # The last second in which it is away, the time in which steps are left out, and the next evaluation.
    blamed = ((away - 1) * every + step.delay + monitoring.triggers.data_grace_seconds) // every * every + every
    goes_on, over = failing(rising(500)), failing(f"0+500x3 {steady(1500)}")
    common = {"step": every, "labels": labels, "value": value}
    cases = [
        Case(
            title=f"{one.name} was {how}: what fails then and right after is not the release's",
            series={**goes_on, **UP, one.up: values},
            checks=((away * every, False), (blamed - every, False), (blamed, True)),
            **common,
        )
        for one in stores(monitoring)
        for how, values in (("away", stepwise((0, away), (1, 1000))), ("not measured", f"_x{away} {steady(1)}"))
    ]
    cases += [
        Case(
            title=f"{one.name} was away for a moment: nothing else failed",
            series={**failing(f"0+0x19 0+500x3 {steady(1500)}"), **UP, one.up: stepwise((1, 21), (0, 3), (1, 1000))},
            checks=tuple((at * every, False) for at in (22, 24, 27, 32)),
            step=every,
        )
        for one in stores(monitoring)
    ]
    cases += [
        Case(
            title=f"what failed before {one.name} was away for a moment still counts",
            series={**over, **UP, one.up: stepwise((1, 10 + counted // every), (0, 2), (1, 1000))},
            checks=tuple((counted + at * every, True) for at in (3, 9, 10, 12, 15)),
            **common,
        )
        for one in stores(monitoring)[:1]
    ]
    held: list[tuple[str, str, Mapping[str, float], bool]] = []
    if postgres := monitoring.postgres:
        percent = postgres.connections_percent
        held += [
            (
                f"the database refuses its exporter, and {which} of its connections were in use",
                "pg_up",
                {'pg_stat_activity_count{datname="shop",state="idle"}': used, "pg_settings_max_connections": 1000},
                blames,
            )
            for which, used, blames in (("all", 10 * percent, True), ("some", 10 * percent - 1, False))
        ]
    if redis := monitoring.redis:
        held += [
            (
                f"Redis refuses its exporter, and {used} clients were connected",
                "redis_up",
                {"redis_connected_clients": used},
                blames,
            )
            for used, blames in ((redis.connections, True), (redis.connections - 1, False))
        ]
    cases += [
        Case(
            title=title,
            series={
                **goes_on,
                **UP,
                up: stepwise((1, 2), (0, 1000)),
                **{metric: f"{steady(value, times=1)} stale" for metric, value in last.items()},
            },
            checks=((counted, False), (counted + every, blames), (counted + 6 * every, blames)),
            step=every,
            labels=labels if blames else {},
            value=value if blames else "",
        )
        for title, up, last, blames in held
    ]
    return tuple(cases)
