"""`python -m tasks validate`: requests to a release in place, each of which has to be answered as it should.

Environment: that of the application; CHECKS, a JSON list of requests; ATTEMPTS; HOST_HEADER.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx

from tasks.environment import Environment
from tasks.errors import TaskError, without
from tasks.go_live.line import secret_values
from tasks.http_check import ask, describe
from tasks.progress import say
from tasks.reach import reach
from tasks.result import Result

_PAUSE_SECONDS = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_validate)


def _validate(_arguments: argparse.Namespace, environment: Environment) -> Result:
    checks = json.loads(environment.required("CHECKS", '[{"path": "/api/health", "status": [200]}]'))
    attempts = environment.integer("ATTEMPTS", least=1) or 1
    for target in {check["target"] for check in checks}:
        with suppress(TaskError):  # the checks say what is wrong
            reach(target)
    failures = [failure for check in checks if (failure := _try(check, attempts, environment))]
    if failures:
        raise TaskError("not_valid", f"{len(failures)} of {len(checks)} checks failed: {'; '.join(failures)}")
    return Result({"passed": len(checks)}, f"{len(checks)} checks passed")


def _try(check: Mapping[str, Any], attempts: int, environment: Environment) -> str | None:
    """Why the check fails, or None."""
    name, why = describe(check), ""
    for attempt in range(1, attempts + 1):
        if attempt > 1:
            time.sleep(_PAUSE_SECONDS)
        try:
            say(f"ok    {name}: {ask(check, environment)}")
            return None
        except (TaskError, httpx.HTTPError, httpx.InvalidURL) as error:
            why = without(secret_values(environment), str(error) or type(error).__name__)
            say(f"FAIL  {name}: {why} (attempt {attempt} of {attempts})")
    return f"{name}: {why}"
