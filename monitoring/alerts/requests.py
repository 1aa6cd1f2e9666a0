"""Customers' requests in PromQL: which of them count, how many fail, and sample requests for tests."""

from __future__ import annotations

import re

from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady
from settings.monitoring import Monitoring

GOOD, BAD = 'release="1.0.0",git="aaa"', 'release="2.0.0",git="bbb"'
ACCUSED = {"release": "2.0.0", "git": "bbb"}


def counted(monitoring: Monitoring, more: str = "") -> str:
    """The matchers of customers' requests."""
    routes = re.sub(r"([.*])", r"[\1]", "|".join(monitoring.machine_routes))
    return "{" + ",".join(filter(None, (f'route!~"{routes}"', more))) + "}"


def error_percent(monitoring: Monitoring) -> str:
    """Errors of each release, in percent of its answers."""
    rate, by = f"{monitoring.triggers.rate_seconds}s", "sum by (release, git)"
    failed = counted(monitoring, 'status=~"5.."')
    return (
        f"100 * {by} (rate(http_request_duration_seconds_count{failed}[{rate}])) / "
        f"{by} (rate(http_request_duration_seconds_count{counted(monitoring)}[{rate}]))"
    )


def enough_requests(monitoring: Monitoring, lasting: int) -> str:
    """Enough requests to judge a release by. A window too short for a rate is too short for a count as well."""
    span = max(lasting, monitoring.triggers.rate_seconds)
    requests = f"http_request_duration_seconds_count{counted(monitoring)}[{span}s]"
    return f"and sum by (release, git) (increase({requests})) >= {monitoring.triggers.least_requests}"


def requests(of: str, *, good: float, bad: float) -> dict[str, str]:
    """A release's answers between two scrapes, and requests of machines that would hide every error if they counted."""
    return {
        f'http_request_duration_seconds_count{{route="/shop",status="200",{of}}}': rising(good),
        f'http_request_duration_seconds_count{{route="/shop",status="500",{of}}}': rising(bad),
        f'http_request_duration_seconds_count{{route="/api/live",status="200",{of}}}': rising(100_000),
    }


def error_boundary(monitoring: Monitoring, limit: float) -> Boundary:
    above, at, step = 10 * limit + 1, 10 * limit, monitoring.scrape_seconds
    # Both releases serve during a rollout: the good one must not hide the bad one.
    rest = requests(GOOD, good=10_000, bad=0) | {"pg_up": steady(1), "redis_up": steady(1)}
    return Boundary(
        beyond=rest | requests(BAD, good=1000 - above, bad=above),
        within=rest | requests(BAD, good=1000 - at, bad=at),
        step=step,
        since=step,
        labels=ACCUSED,
        value=f"{above / 10:.1f} %",
    )


def too_few_requests(monitoring: Monitoring, lasting: int) -> Case:
    step = monitoring.scrape_seconds
    span = max(lasting, monitoring.triggers.rate_seconds)
    apart = step * (span // monitoring.triggers.least_requests // step + 1)
    few = " ".join(str(n * step // apart) for n in range(3 * lasting // step))
    return Case(
        title="nothing but errors, of too few requests",
        series={f'http_request_duration_seconds_count{{route="/shop",status="500",{BAD}}}': few},
        checks=tuple((at, False) for at in range(step, 3 * lasting - step, 7 * step)),
        step=step,
    )
