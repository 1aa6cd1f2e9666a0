"""`python -m tasks lighthouse`: measures pages, and fails when a page is below its limits.

LIGHTHOUSE is JSON: `routes` (each with `path`, `limits`), `formFactor`, `runs`, `leastBenchmark`, `runSeconds`. A path
is below TARGET_URL. REPORTS is a folder that gets the report of each page as HTML and JSON; without it they are printed
as lines that `runbook` turns into the same files, because a pod of a Job keeps nothing else.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.lighthouse.browser import Run, has_user_namespaces, run_lighthouse
from tasks.lighthouse.judge import Verdict, judge_page, show
from tasks.progress import say
from tasks.result import Result

_EXAMPLE = '{"routes": [{"path": "/", "limits": {"score": 90}}], "formFactor": "mobile", "runs": 3, …}'
_MORE_RUNS = 2
"""How often a page that fails is measured anew because the machine was too busy."""
_CHUNK = 8000
MARK = "lighthouse-report"
"""First word of a line with a part of a report."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_measure_all)


def _measure_all(_arguments: argparse.Namespace, environment: Environment) -> Result:
    asked = json.loads(environment.required("LIGHTHOUSE", _EXAMPLE))
    target = environment.required("TARGET_URL", "http://127.0.0.1:3000").rstrip("/")
    if not has_user_namespaces():
        say("Chromium runs without a sandbox of its own: this pod may not make user namespaces, and is the sandbox.")
    pages: list[dict[str, Any]] = []
    for route in asked["routes"]:
        verdict, run = measure_page(target, route, asked, environment)
        keep_reports(route["path"], run, environment)
        pages.append(
            {
                "path": route["path"],
                "formFactor": asked["formFactor"],
                "values": dict(verdict.values),
                "exceeded": list(verdict.exceeded),
                "worst": verdict.worst,
                "benchmark": verdict.benchmark,
                "believed": verdict.believed,
            }
        )
    for page in pages:
        say(_describe(page))
    bad = [page for page in pages if page["exceeded"]]
    if not bad:
        return Result({"pages": pages}, f"{len(pages)} pages keep their limits")
    first = f"{bad[0]['path']} ({asked['formFactor']}): {'; '.join(bad[0]['exceeded'])}. Worst: {bad[0]['worst']}"
    # A pass on a slow machine is a pass; a failure on one says nothing about the page.
    if not any(page["believed"] for page in bad):
        raise TaskError(
            "machine_busy",
            f"this machine was too busy or is too slow to say ({bad[0]['benchmark']:.0f} by Lighthouse's index, "
            f"{asked['leastBenchmark']} is the least): {first}. Run it again on a node with a free CPU, or lower "
            "runbook:performance.leastBenchmark",
        )
    raise TaskError("too_slow", f"{len(bad)} of {len(pages)} pages do not keep their limits. {first}")


def measure_page(
    target: str,
    route: Mapping[str, Any],
    asked: Mapping[str, Any],
    environment: Environment,
    *,
    more_runs: int = _MORE_RUNS,
    deadline: float = math.inf,
) -> tuple[Verdict, Run]:
    """The median of `runs`; `more_runs` times anew when it fails on a machine that was too busy. `deadline`: by the
    monotonic clock."""
    for last in (*(False,) * more_runs, True):
        runs = [
            run_lighthouse(
                target + route["path"],
                asked["formFactor"],
                min(asked["runSeconds"], deadline - time.monotonic()),
                environment,
            )
            for _ in range(asked["runs"])
        ]
        verdict = judge_page([run.report for run in runs], route["limits"], asked["leastBenchmark"])
        if last or verdict.believed or not verdict.exceeded:
            return verdict, runs[verdict.chosen]
        say(f"{route['path']}: this machine was too busy ({verdict.benchmark:.0f}); measured again")
    raise AssertionError("the last round returns")


def _describe(page: Mapping[str, Any]) -> str:
    word = "ok  " if not page["exceeded"] else "FAIL"
    values = ", ".join(f"{name} {show(name, value)}" for name, value in page["values"].items())
    machine = "" if page["believed"] else f" (this machine was busy: {page['benchmark']:.0f})"
    return f"{word}  {page['path']} ({page['formFactor']}): {values}{machine}"


def keep_reports(path: str, run: Run, environment: Environment) -> None:
    """As files in REPORTS, or as lines of output."""
    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "index"
    files = {f"{name}.html": run.html, f"{name}.json": json.dumps(run.report)}
    folder = environment.text("REPORTS")
    for file, text in files.items():
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, file).write_text(text)
            continue
        packed = base64.b64encode(gzip.compress(text.encode())).decode()
        for start in range(0, len(packed), _CHUNK):
            print(f"{MARK} {file} {packed[start : start + _CHUNK]}", flush=True)
