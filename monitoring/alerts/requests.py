"""Customers' requests in PromQL: how many are answered, fail or are slow, in a window of time, and sample requests.

Every evaluation records how many requests there were since the one before (`rise_between`), by release; alerts add
them up over their windows. So a window is a plain sum, first errors count, and a step can be left out: what happened
while a data service was away is no error of a release, and what happened before that still is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor

from monitoring.alerts.counters import rise_between
from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady
from monitoring.alerts.rule import Recording
from settings.monitoring import Monitoring

GOOD, BAD = 'release="1.0.0",git="aaa"', 'release="2.0.0",git="bbb"'
ACCUSED = {"release": "2.0.0", "git": "bbb"}
BY = "by (release, git)"
COUNT = "http_request_duration_seconds_count"


def counted(monitoring: Monitoring, more: str = "") -> str:
    """The matchers of customers' requests."""
    routes = re.sub(r"([.*])", r"[\1]", "|".join(monitoring.machine_routes))
    return "{" + ",".join(filter(None, (f'route!~"{routes}"', more))) + "}"


@dataclass(frozen=True, kw_only=True)
class Step:
    """The requests of each evaluation, as the rules of one domain count them."""

    domain: str
    """First part of the records' names."""
    every: int
    """Seconds from one evaluation to the next."""
    delay: int = 0
    """Seconds after which a step is counted."""
    unless: str = ""
    """PromQL: steps that are left out."""

    def record(self, what: str, *series: str) -> Recording:
        """How much the series rose in a step; of two, how much more the first one rose."""
        rises = [f"sum {BY} ({rise_between(one, self.every, delay=self.delay)})" for one in series]
        return Recording(record=self.name(what), expr=f"{' - '.join(rises)} {self.unless}".rstrip())

    def name(self, what: str) -> str:
        return f"{self.domain}:{what}:step"

    def within(self, what: str, seconds: int) -> str:
        """How many there were within so many seconds, by release."""
        # Both ends of a range belong to it.
        return f"sum {BY} (sum_over_time({self.name(what)}{{}}[{max(seconds, 2 * self.every) - 1}s]))"


def share(monitoring: Monitoring, step: Step, of: str, among: str, seconds: int) -> str:
    """Percentage of `of` among `among` within the window; with too few of either, as at night, within a longer one,
    while there are some in the first. Without a value where the longer one has too few as well."""
    triggers = monitoring.triggers

    def enough(window: int) -> str:
        some, all_ = step.within(of, window), step.within(among, window)
        return (
            f"{plain_share(step, of, among, window)} and {some} >= {triggers.least_failures} "
            f"and {all_} >= {triggers.least_requests}"
        )

    quiet = max(triggers.quiet_seconds, seconds)
    return f"({enough(seconds)} or {enough(quiet)} and {step.within(of, seconds)} > 0)"


def plain_share(step: Step, of: str, among: str, seconds: int) -> str:
    """The percentage, however few they are."""
    return f"100 * {step.within(of, seconds)} / {step.within(among, seconds)}"


def error_records(monitoring: Monitoring, step: Step) -> tuple[Recording, Recording]:
    failed = counted(monitoring, 'status=~"5.."')
    return step.record("errors", f"{COUNT}{failed}"), step.record("requests", f"{COUNT}{counted(monitoring)}")


def requests(of: str, *, good: float, bad: float) -> dict[str, str]:
    """A release's answers between two scrapes, and requests of machines that would hide every error if they counted."""
    return {
        f'{COUNT}{{route="/shop",status="200",{of}}}': rising(good),
        f'{COUNT}{{route="/shop",status="500",{of}}}': rising(bad),
        f'{COUNT}{{route="/api/live",status="200",{of}}}': rising(100_000),
    }


def error_boundary(step: Step, limit: float) -> Boundary:
    above, at = 10 * limit + 1, 10 * limit
    # Both releases serve during a rollout: the good one must not hide the bad one.
    rest = requests(GOOD, good=10_000, bad=0) | _UP
    return Boundary(
        beyond=rest | requests(BAD, good=1000 - above, bad=above),
        within=rest | requests(BAD, good=1000 - at, bad=at),
        step=step.every,
        since=first_step(step),
        labels=ACCUSED,
        value=f"{above / 10:.1f} %",
    )


_UP = {"pg_up": steady(1), "redis_up": steady(1)}


def window_cases(monitoring: Monitoring, step: Step, window: int, limit: float) -> tuple[Case, ...]:
    """The window itself, the least numbers, and counters that appear with their first error."""
    triggers = monitoring.triggers
    few = triggers.least_failures
    answers = max(triggers.least_requests, few)
    good = 2 * answers
    new = _scraped(pods=answers)
    return (
        *_burst(step, window, limit),
        _at(
            "too few errors to judge by, and one more",
            step,
            _pod(200, f"0 0 0 {steady(good)}") | _pod(500, f"0 0 0 {few - 1}+0x9 {steady(few)}"),
            {3: False, 12: False, 13: True},
            f"{100 * few / (good + few):.1f} %",
        ),
        _at(
            "nothing but errors, of too few requests, and of one more",
            step,
            _pod(500, f"0 0 0 {answers - 1}+0x9 {steady(answers)}"),
            {3: False, 12: False, 13: True},
            "100.0 %",
        ),
        *_at_night(monitoring, step, window),
        _at(
            "one error of each pod, in counters that appear with it",
            step,
            {**new, **_each(answers, f"_x20 {steady(1)}")},
            {19: False, 20: True},
            "100.0 %",
        ),
        _at(
            "the same of one pod fewer",
            step,
            {**new, **_each(answers - 1, f"_x20 {steady(1)}")},
            {20: False, 25: False},
        ),
        _at(
            "one error of each of as many new pods",
            step,
            _each(answers, f"_x20 {steady(1)}") | _started(answers, f"_x20 {steady(19 * step.every)}"),
            {19: False, 20: True},
            "100.0 %",
        ),
        _at(
            "errors of long ago, which the monitoring sees only now",
            step,
            _each(answers, f"_x60 {steady(50)}") | _started(answers, f"_x60 {steady(0)}"),
            {60: False, 61: False, 80: False},
        ),
        _at(
            "the errors of a process that was started again",
            step,
            _scraped(pods=1) | _pod(200, f"1000+0x10 {steady(good)}") | _pod(500, f"900+0x10 {steady(few)}"),
            {10: False, 11: True},
            f"{100 * few / (good + few):.1f} %",
        ),
    )


def _at(title: str, step: Step, series: dict[str, str], firing: dict[int, bool], value: str = "") -> Case:
    """A case whose checks are made when the values with these numbers are counted."""
    checks = tuple((first_step(step) + (place - 1) * step.every, fires) for place, fires in firing.items())
    labels = ACCUSED if value else {}
    return Case(title=title, series=_UP | series, checks=checks, step=step.every, labels=labels, value=value)


def first_step(step: Step) -> int:
    """When the second value of a series, the first that can have risen, is counted."""
    return (ceil(step.delay / step.every) + 1) * step.every


def _pod(status: int, values: str, pod: int = 1) -> dict[str, str]:
    where = f'job="backend",instance="{pod}",route="/shop",status="{status}"'
    return {f"{COUNT}{{{where},{BAD}}}": values}


def _each(pods: int, errors: str) -> dict[str, str]:
    return {name: values for pod in range(pods) for name, values in _pod(500, errors, pod + 1).items()}


def _scraped(pods: int) -> dict[str, str]:
    return {f'up{{job="backend",instance="{pod + 1}"}}': steady(1) for pod in range(pods)}


def _started(pods: int, values: str) -> dict[str, str]:
    return {f'process_start_time_seconds{{job="backend",instance="{pod + 1}",{BAD}}}': values for pod in range(pods)}


def _burst(step: Step, window: int, limit: float) -> Iterator[Case]:
    """Errors in one step of steady traffic: just above the limit in the window, until it leaves the window."""
    steps, per = (max(window, 2 * step.every) - 1) // step.every + 1, 1000
    errors = floor(limit / (100 - limit) * per * steps) + 1
    at = 2 * steps
    for title, bad in (("just above", errors), ("just below", errors - 1)):
        fires = bad == errors
        yield _at(
            f"errors of one moment, {title} the limit within {window} s",
            step,
            _pod(200, rising(per)) | _pod(500, f"0+0x{at - 1} {steady(bad)}"),
            {at - 1: False, at: fires, at + steps - 1: fires, at + steps: False},
            f"{100 * bad / (per * steps + bad):.1f} %" if fires else "",
        )


def _at_night(monitoring: Monitoring, step: Step, window: int) -> Iterator[Case]:
    """Errors so far apart that no window has enough of them, and the longer one has."""
    triggers = monitoring.triggers
    few, quiet = triggers.least_failures, triggers.quiet_seconds
    if few == 1 or quiet < 3 * window:
        return
    apart = window // step.every // (few - 1) + 1
    good = max(2, ceil(triggers.least_requests / few))
    numbers = range(2 * few * apart)
    values = " ".join(str(number // apart) for number in numbers)
    others = " ".join(str(good * (number // apart)) for number in numbers)
    yield _at(
        f"at night: too few errors within {window} s, enough within {quiet} s",
        step,
        _pod(500, values) | _pod(200, others),
        {few * apart - 1: False, few * apart: True},
        f"{100 / (1 + good):.1f} %",
    )
