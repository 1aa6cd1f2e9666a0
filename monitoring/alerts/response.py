"""The rollback trigger on response times: the part of the answers that are slower than the limit.

It is counted from the histogram's bucket at the limit, never interpolated between buckets: answers that all take 2.6 s
have a quantile of 4.9 s where the buckets end at 2.5 s and 5 s.
"""

from __future__ import annotations

from monitoring.alerts.promtool_cases import Boundary, Case, rising, steady
from monitoring.alerts.requests import ACCUSED, BAD, BY, COUNT, Step, counted, first_step, plain_share, requests, share
from monitoring.alerts.rule import PERCENT, Alert, Recording
from monitoring.alerts.trigger import CHAPTER, CONTROLLER, UP, blameless
from settings.monitoring import Monitoring

_BUCKET = "http_request_duration_seconds_bucket"
_SLOW = "slow"


def response_records(monitoring: Monitoring, step: Step) -> Recording:
    within = counted(monitoring, _at_limit(monitoring))
    return step.record(_SLOW, f"{COUNT}{counted(monitoring)}", f"{_BUCKET}{within}")


def _at_limit(monitoring: Monitoring) -> str:
    """The bucket that ends at the limit, as any client library writes it: 3, 3.0 or 3.000."""
    whole, _, part = f"{monitoring.triggers.response_milliseconds / 1000:g}".partition(".")
    number = f"{whole}[.]{part}0*" if part else f"{whole}([.]0+)?"
    return f'le=~"{number}"'


def _slow_percent(monitoring: Monitoring) -> float:
    return round(100 * (1 - monitoring.triggers.response_quantile), 9)


def response(monitoring: Monitoring, step: Step) -> Alert:
    triggers = monitoring.triggers
    limit, window, most = triggers.response_milliseconds, triggers.response_seconds, _slow_percent(monitoring)
    few, first = triggers.least_failures, first_step(step)
    many = 2 * max(few, triggers.least_requests)
    return Alert(
        name="RollbackResponseTime",
        measure=share(monitoring, step, _SLOW, "requests", window),
        operator=">",
        limit=most,
        shown=plain_share(step, _SLOW, "requests", window),
        severity="critical",
        summary=f"over {most:g} % of release {{{{ $labels.release }}}}'s answers in {window} s took over {limit} ms",
        about="response",
        channel="critical",
        chapter=f"{CHAPTER}: RESPONSE_TIME_CRITICAL",
        missing="without requests it does not fire; without a bucket at the limit: `ResponseTimeUnmeasured`; "
        "no metrics: `MetricsMissing`; no answers: `RollbackHealth`",
        advice=CONTROLLER,
        value=PERCENT,
        action="rollback",
        quiet=True,
        boundary=Boundary(
            beyond=UP | _durations(monitoring, 1000 - 10 * most - 1),
            within=UP | _durations(monitoring, 1000 - 10 * most),
            step=step.every,
            since=first,
            labels=ACCUSED,
            value=f"{most + 0.1:.1f} %",
        ),
        more=(
            Case(
                title="answers just within the limit, none of them in a faster bucket",
                series=UP | _durations(monitoring, 1000, faster=0),
                checks=((first, False), (first + 10 * step.every, False)),
                step=step.every,
            ),
            Case(
                title="too few slow answers to judge by, and one more",
                series=UP | _slow(monitoring, f"0 {many - 1}+0x8 {steady(many)}", f"0 {steady(many - few)}"),
                checks=((first, False), (first + 8 * step.every, False), (first + 9 * step.every, True)),
                step=step.every,
                labels=ACCUSED,
                value=f"{100 * few / many:.1f} %",
            ),
            *blameless(
                monitoring, step, lambda values: _slow(monitoring, values, steady(0)), "100.0 %", labels=ACCUSED
            ),
        ),
    )


def _slow(monitoring: Monitoring, all_: str, within: str) -> dict[str, str]:
    limit = f"{monitoring.triggers.response_milliseconds / 1000:g}"
    return {
        f'{COUNT}{{route="/shop",status="200",{BAD}}}': all_,
        f'{_BUCKET}{{route="/shop",status="200",{BAD},le="{limit}"}}': within,
    }


def _durations(monitoring: Monitoring, fast: float, faster: float = 500) -> dict[str, str]:
    """Of 1000 answers between two scrapes, so many are within the limit, and of these so many within half of it."""
    limit = monitoring.triggers.response_milliseconds / 1000
    buckets = {f"{limit / 2:g}": faster, f"{limit:.2f}": fast, f"{2 * limit:g}": 1000.0, "+Inf": 1000.0}
    series = {
        f'{_BUCKET}{{route="/shop",status="200",{BAD},le="{le}"}}': rising(round(count, 6))
        for le, count in buckets.items()
    }
    machines = {f'{_BUCKET}{{route="/api/live",status="200",{BAD},le="{le}"}}': rising(100_000) for le in buckets}
    return series | machines | requests(BAD, good=1000, bad=0)


def unmeasured(monitoring: Monitoring) -> Alert:
    limit, lasting, step = monitoring.triggers.response_milliseconds, monitoring.infrastructure.target_seconds, 30
    there = {
        f'{COUNT}{{route="/shop",status="200",{BAD}}}': steady(7),
        f'{_BUCKET}{{route="/shop",status="200",{BAD},le="+Inf"}}': steady(7),
    }

    def bucket(seconds: float) -> dict[str, str]:
        return {f'{_BUCKET}{{route="/shop",status="200",{BAD},le="{seconds:g}"}}': steady(7)}

    return Alert(
        name="ResponseTimeUnmeasured",
        measure=f"count {BY} ({COUNT}{counted(monitoring)}) unless "
        f"count {BY} ({_BUCKET}{counted(monitoring, _at_limit(monitoring))})",
        lasting=lasting,
        severity="warning",
        summary=f"the histogram of release {{{{ $labels.release }}}} has no bucket that ends at {limit} ms: slow "
        "answers are not noticed, and roll no release back",
        about="response-bucket",
        channel="performance",
        chapter=f"{CHAPTER}: RESPONSE_TIME_CRITICAL",
        missing="without requests it does not fire; no metrics: `MetricsMissing`",
        advice=f"add {limit / 1000:g} to the buckets of http_request_duration_seconds, or set "
        "`triggers.responseMilliseconds` to one that it has",
        on_absence=True,
        boundary=Boundary(
            beyond=there | bucket(limit / 1000 * 1.01) | bucket(limit / 1000 * 0.99),
            within=there | bucket(limit / 1000),
            step=step,
            labels=ACCUSED,
            titles=("buckets on both sides of the limit", "a bucket at the limit"),
        ),
    )
