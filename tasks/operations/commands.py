"""`python -m tasks debug …`: what `runbook` runs for its quick reference.

Environment: that of the application (DATABASE_URL, REDIS_URL or what --url names).
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import datetime

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.go_live.line import reach
from tasks.http_check import ingress_headers
from tasks.operations.request_phases import measure
from tasks.result import Result

_DATABASE = "postgresql://user:password@host:5432/database"


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="verb")
    database = verbs.add_parser("database", help="slow queries, locks and bloat")
    database.add_argument("--least-ms", type=int, default=100, help="mean time from which a query is slow")
    database.add_argument("--seconds", type=int, default=30, help="time limit of each query")
    database.set_defaults(run=_database)
    request = verbs.add_parser("request", help="how long each phase of a request takes")
    request.add_argument("--url", required=True)
    request.add_argument("--host", help="Host header")
    request.add_argument("--times", type=int, default=5)
    request.add_argument("--seconds", type=float, default=15, help="time limit of each phase")
    request.set_defaults(run=_request)
    limits = verbs.add_parser("rate-limits", help="keys of a user's rate limits")
    limits.add_argument("--user", required=True)
    limits.add_argument("--variable", default="REDIS_URL", help="variable with the URL of Redis")
    limits.add_argument("--key", action="append", required=True, help="pattern with {user}; repeatable")
    limits.set_defaults(run=_rate_limits)
    metric = verbs.add_parser("metric", help="a query of business metrics")
    metric.add_argument("--query", required=True)
    metric.add_argument("--since", type=datetime.fromisoformat, required=True)
    metric.add_argument("--until", type=datetime.fromisoformat, required=True)
    metric.add_argument("--points", type=int, default=60)
    metric.add_argument("--seconds", type=int, default=30, help="time limit")
    metric.set_defaults(run=_metric)


def _database(arguments: argparse.Namespace, environment: Environment) -> Result:
    from tasks.operations.database import examine, summarise

    url = environment.required("DATABASE_URL", _DATABASE)
    found = examine(url, least_ms=arguments.least_ms, seconds=arguments.seconds)
    return Result(found, summarise(found))


def _request(arguments: argparse.Namespace, environment: Environment) -> Result:
    headers = ingress_headers(environment)
    with suppress(TaskError):  # what is measured says why the server cannot be reached
        reach(arguments.url)
    if arguments.host:
        headers["Host"] = arguments.host
    found = measure(arguments.url, headers, arguments.times, arguments.seconds)
    return Result(found, f"{found.get('median', {}).get('total', found.get('error'))}")


def _rate_limits(arguments: argparse.Namespace, environment: Environment) -> Result:
    from tasks.operations.rate_limits import read_rate_limits

    url = environment.required(arguments.variable, "redis://user:password@host:6379/0")
    found = read_rate_limits(url, arguments.key, arguments.user)
    return Result(found, f"{len(found['keys'])} keys")


def _metric(arguments: argparse.Namespace, environment: Environment) -> Result:
    from tasks.operations.metric import read_metric

    since, until = arguments.since, arguments.until
    if since.tzinfo is None or until.tzinfo is None or since >= until or arguments.points < 1:
        raise Refused("environment_invalid", "--since and --until need a time zone, and --since has to be earlier")
    url = environment.required("DATABASE_URL", _DATABASE)
    found = read_metric(
        url, arguments.query, since=since, until=until, points=arguments.points, seconds=arguments.seconds
    )
    return Result(found, f"{len(found['times'])} points")
