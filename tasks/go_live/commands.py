"""`python -m tasks go-live check`.

Environment: that of the application; GO_LIVE, the settings as JSON; HOST_HEADER.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tasks.environment import Environment
from tasks.go_live.administrators import check_administrators
from tasks.go_live.clamav import check_clamav
from tasks.go_live.line import Ended, Line
from tasks.go_live.redis_server import check_redis
from tasks.go_live.smtp import check_smtp
from tasks.go_live.webhooks import check_webhooks
from tasks.http_check import ask, describe
from tasks.result import Result


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="verb")
    check = verbs.add_parser("check", help="try every line that GO_LIVE does not leave out")
    check.set_defaults(run=_check)


def _check(_arguments: argparse.Namespace, environment: Environment) -> Result:
    settings = json.loads(environment.required("GO_LIVE", '{"variables": ["DATABASE_URL"]}'))

    def check_http(line: Line, part: Mapping[str, Any]) -> None:
        line.variables(part["variables"])
        check = part["check"]
        line.request(describe(check), check["target"], lambda: ask(check, line.environment))

    probes: dict[str, Callable[[Line, Any], None]] = {
        "variables": lambda line, names: line.variables(names),
        "api": check_http,
        "frontend": check_http,
        "stripe": check_webhooks,
        "smtp": check_smtp,
        "redis": check_redis,
        "clamav": check_clamav,
        "administrators": check_administrators,
    }

    def run(name: str) -> list[dict[str, Any]]:
        line = Line(environment)
        with suppress(Ended):
            probes[name](line, settings[name])
        return line.steps

    wanted = [name for name in probes if name in settings]
    with ThreadPoolExecutor(max_workers=len(probes)) as pool:
        found = dict(zip(wanted, pool.map(run, wanted), strict=True))
    failed = [name for name, steps in found.items() if not all(step["passed"] for step in steps)]
    return Result({"lines": found}, f"{len(found) - len(failed)} of {len(found)} lines pass")
