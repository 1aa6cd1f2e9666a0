"""Measures every page once, and judges none of them by its exit code: a result is a result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.environment import Environment
from tasks.errors import Refused, TaskError
from tasks.lighthouse.commands import keep_reports, measure_page
from tasks.pages.results import BUSY, KEPT, NOT_MEASURED, OVER_BUDGET
from tasks.progress import say
from tasks.reach import reach


def measure_pages(asked: Mapping[str, Any], environment: Environment) -> Iterator[dict[str, Any]]:
    """The result of each route. `allSeconds`: what is not measured by then is left out, and says so."""
    deadline = time.monotonic() + asked["allSeconds"]
    for route in asked["routes"]:
        try:
            # The network of a new pod refuses connections until its policies are in place.
            reach(route["target"])
            # On a machine that is too busy the next check is another attempt.
            verdict, run = measure_page(route["target"], route, asked, environment, more_runs=0, deadline=deadline)
        except Refused:
            raise
        except TaskError as error:
            say(f"{route['path']}: {error}")
            yield {"path": route["path"], "result": NOT_MEASURED, "why": str(error)}
            continue
        keep_reports(route["path"], run, environment)
        result = KEPT if not verdict.over else OVER_BUDGET if verdict.believed else BUSY
        say(f"{route['path']}: {result}{''.join(f'; {text}' for text in verdict.exceeded)}; worst: {verdict.worst}")
        yield {
            "path": route["path"],
            "result": result,
            "values": dict(verdict.values),
            "limits": route["limits"],
            "over": list(verdict.over),
            "worst": verdict.worst_audit,
            "benchmark": verdict.benchmark,
        }
