"""What the rollback triggers share: when a failure is not the release's, and the sample metrics that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def stores(monitoring: Monitoring) -> tuple[tuple[str, str], ...]:
    """What no older release repairs, and the series that says whether it is up."""
    return (("the database", "pg_up"), *([("Redis", "redis_up")] if monitoring.redis else []))


def _uses(monitoring: Monitoring) -> list[tuple[str, float]]:
    """Of each of `stores`: the connections in use, and from where on they are used up."""
    percent = "100 * sum(pg_stat_activity_count{}) / max(pg_settings_max_connections{})"
    redis = ("max(redis_connected_clients{})", monitoring.redis.connections) if monitoring.redis else None
    return [(percent, monitoring.postgres.connections_percent), *([redis] if redis else [])]


def away_record(monitoring: Monitoring) -> Recording:
    """Has a value while the database or Redis is away, or its exporter reports nothing. An exporter that a server
    refuses although it is there, because a release holds its connections, is no reason to keep that release."""
    every, silence = monitoring.evaluation_seconds, 2 * monitoring.scrape_seconds
    full = [f"max_over_time(({used})[{_FULL_SECONDS}s:{every}s]) >= {most:.15g}" for used, most in _uses(monitoring)]
    downs = [f"max({metric}{{}}) == 0" for _, metric in stores(monitoring)]
    down = " or ".join(f"({one} unless on () {used_up})" for one, used_up in zip(downs, full, strict=True))
    unknown = " or ".join(f"absent_over_time({metric}{{}}[{silence}s])" for _, metric in stores(monitoring))
    return Recording(record=AWAY, expr=f"count({down} or {unknown})")


def unless_away(seconds: int) -> str:
    return f"unless on () count_over_time({AWAY}{{}}[{seconds}s])"


def steps(monitoring: Monitoring) -> Step:
    """Requests are counted when it is known whether a data service was away then, and not if it was."""
    notice = monitoring.notice_seconds
    return Step(
        domain="triggers",
        every=monitoring.evaluation_seconds,
        delay=notice,
        unless=unless_away(notice + monitoring.triggers.data_grace_seconds),
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
            title=f"{name} was {how}: what fails then and right after is not the release's",
            series={**goes_on, **UP, metric: values},
            checks=((away * every, False), (blamed - every, False), (blamed, True)),
            **common,
        )
        for name, metric in stores(monitoring)
        for how, values in (("away", stepwise((0, away), (1, 1000))), ("not measured", f"_x{away} {steady(1)}"))
    ]
    cases += [
        Case(
            title=f"{name} was away for a moment: nothing else failed",
            series={**failing(f"0+0x19 0+500x3 {steady(1500)}"), **UP, metric: stepwise((1, 21), (0, 3), (1, 1000))},
            checks=tuple((at * every, False) for at in (22, 24, 27, 32)),
            step=every,
        )
        for name, metric in stores(monitoring)
    ]
    cases.append(
        Case(
            title="what failed before the database was away for a moment still counts",
            series={**over, **UP, "pg_up": stepwise((1, 10 + counted // every), (0, 2), (1, 1000))},
            checks=tuple((counted + at * every, True) for at in (3, 9, 10, 12, 15)),
            **common,
        )
    )
    percent = monitoring.postgres.connections_percent
    refused = {
        **UP,
        "pg_up": stepwise((1, 2), (0, 1000)),
        "pg_settings_max_connections": f"{steady(1000, times=1)} stale",
    }
    for title, used, blames in (("all", 10 * percent, True), ("some", 10 * percent - 1, False)):
        held = {'pg_stat_activity_count{datname="shop",state="idle"}': f"{steady(used, times=1)} stale"}
        cases.append(
            Case(
                title=f"the database refuses its exporter, and {title} of its connections were in use",
                series={**goes_on, **refused, **held},
                checks=((counted, False), (counted + every, blames), (counted + 6 * every, blames)),
                step=every,
                labels=labels if blames else {},
                value=value if blames else "",
            )
        )
    if monitoring.redis:
        most = monitoring.redis.connections
        cases += [
            Case(
                title=f"Redis refuses its exporter, and {used} clients were connected",
                series={
                    **goes_on,
                    **UP,
                    "redis_up": stepwise((1, 2), (0, 1000)),
                    "redis_connected_clients": f"{steady(used, times=1)} stale",
                },
                checks=((counted, False), (counted + every, blames), (counted + 6 * every, blames)),
                step=every,
                labels=labels if blames else {},
                value=value if blames else "",
            )
            for used, blames in ((most, True), (most - 1, False))
        ]
    return tuple(cases)
