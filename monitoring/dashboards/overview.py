"""The current release under traffic. Open this dashboard first; it shows whether a rollback helped."""

from __future__ import annotations

from monitoring.alerts.requests import counted
from monitoring.dashboards.board import WIDTH, Board, Measured, Panel, Query, Row, Word, graph, number
from settings.monitoring import Monitoring

_RELEASE = "{{release}} ({{git}})"


def overview(monitoring: Monitoring) -> Board:
    return Board(
        slug="overview",
        title="Release overview",
        about="Health, errors and response times of the current release; releases and rollbacks are marked.",
        since="now-1h",
        domains=("triggers", "service"),
        rows=(
            Row("Release", _serving(monitoring)),
            Row("Rollback triggers", _triggers(monitoring)),
            Row("Requests", _requests(monitoring)),
        ),
    )


def _serving(monitoring: Monitoring) -> tuple[Panel, ...]:
    checks = 'probe_success{job="%s"}'
    open_ = {0: Word(text="failing", color="red"), 1: Word(text="healthy", color="green")}
    rate = f"{monitoring.triggers.rate_seconds}s"
    servers = {"Database": "min(pg_up{})"} if monitoring.postgres else {}
    servers |= {"Redis": "min(redis_up{})"} if monitoring.redis else {}
    requests = f"sum(rate(http_request_duration_seconds_count{counted(monitoring)}[{rate}]))"
    return (
        number(
            "Pods by release",
            "short",
            "count by (release, git) (count by (release, git, instance) (http_request_duration_seconds_count{}))",
            legend=_RELEASE,
            width=8,
            about="Two releases: a rollout or a rollback is running.",
        ),
        number("Health", "short", f"min({checks % 'health'})", words=open_),
        number(
            "Front door",
            "short",
            f"min({checks % 'front-door'})",
            words=open_,
            about="Requests the public URL through the ingress.",
        ),
        number("Requests", "reqps", requests),
        *(
            (
                number(
                    " and ".join(servers),
                    "short",
                    " * ".join(servers.values()),
                    words={0: Word(text="down", color="red"), 1: Word(text="up", color="green")},
                    about="What fails while one of them is down, and shortly after, triggers no rollback.",
                ),
            )
            if servers
            else ()
        ),
    )


def _triggers(monitoring: Monitoring) -> tuple[Panel, ...]:
    triggers = monitoring.triggers
    span = f"{(triggers.health_failures + 1) * monitoring.health_seconds}s"
    width = WIDTH // 4 if monitoring.gateway else WIDTH // 3
    return (
        graph(
            "Errors",
            "percent",
            Measured("RollbackErrorRate", _RELEASE),
            Measured("ErrorRateHigh", f"{_RELEASE}, those while a data service is away included"),
            width=12,
            about=f"Responses with status 5xx, in percent of all within {triggers.error_rate_seconds} s.",
        ),
        graph(
            f"Answers slower than {triggers.response_milliseconds} ms",
            "percent",
            Measured("RollbackResponseTime", _RELEASE),
            width=12,
            about=f"In percent of those within {triggers.response_seconds} s.",
        ),
        *(
            (
                graph(
                    "Errors of the ingress controller",
                    "percent",
                    Measured("RollbackGateway", "502 to 504"),
                    width=width,
                    about="Requests that it answered itself, because no service did.",
                ),
            )
            if monitoring.gateway
            else ()
        ),
        graph(
            f"Restarts of pods within {triggers.restart_seconds} s",
            "short",
            Measured("RollbackRestarts", "{{instance}}"),
            width=width,
            about="The alert adds up those of pods with more than one.",
        ),
        graph(
            f"Failed health checks within {span}",
            "short",
            Measured("RollbackHealth", "failed"),
            width=width,
            about="The alert fires only if none of these checks succeeded.",
        ),
        graph(
            f"SQL injection within {triggers.sql_injection_seconds} s",
            "short",
            Measured("SqlInjection", "attempts"),
            width=width,
            about="Triggers a lockdown and no rollback: an attacker must not be able to force one.",
        ),
    )


def _requests(monitoring: Monitoring) -> tuple[Panel, ...]:
    rate = f"{monitoring.triggers.rate_seconds}s"
    all_, failed = counted(monitoring), counted(monitoring, 'status=~"5.."')
    count, buckets = "http_request_duration_seconds_count", "http_request_duration_seconds_bucket"
    quantile = monitoring.triggers.response_quantile
    return (
        graph("Requests by status", "reqps", Query(f"sum by (status) (rate({count}{all_}[{rate}]))", "{{status}}")),
        graph(
            "Errors by route",
            "reqps",
            Query(f"sum by (method, route) (rate({count}{failed}[{rate}])) > 0", "{{method}} {{route}}"),
        ),
        graph(
            f"Response time by route ({quantile:.0%})",
            "s",
            Query(f"histogram_quantile({quantile:g}, sum by (route, le) (rate({buckets}{all_}[{rate}])))", "{{route}}"),
        ),
    )
