"""`python -m tasks maintenance …`."""

from __future__ import annotations

import argparse

from tasks.environment import Environment
from tasks.errors import Refused
from tasks.maintenance_tasks import report as reports
from tasks.maintenance_tasks.runner import run_plan
from tasks.result import Result
from tasks.store import open_store


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = verbs.add_parser("run", help="run the tasks of MAINTENANCE_PLAN and keep a report")
    verb.add_argument("schedule", choices=("daily", "weekly", "monthly"), help="the one that MAINTENANCE_PLAN is of")
    verb.add_argument("--task", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    verb.set_defaults(run=_run)

    verb = verbs.add_parser("report", help="a report that was kept")
    verb.add_argument("schedule", choices=("daily", "weekly", "monthly"))
    verb.add_argument("--run", dest="wanted", metavar="RUN", help="of this run; the newest by default")
    verb.set_defaults(run=_report)

    verb = verbs.add_parser("runs", help="the runs that have a report, newest first")
    verb.add_argument("schedule", choices=("daily", "weekly", "monthly"))
    verb.set_defaults(run=_runs)


def _run(arguments: argparse.Namespace, environment: Environment) -> Result:
    report = run_plan(environment, arguments.task)
    return Result(report, reports.to_text(report), exit_code=1 if report["result"] == "failed" else 0)


def _report(arguments: argparse.Namespace, environment: Environment) -> Result:
    store = open_store(environment)
    runs = reports.list_runs(store, arguments.schedule)
    if not runs:
        raise Refused(
            "report_missing", f"there is no {arguments.schedule} report yet: `runbook maintenance run` makes one"
        )
    wanted = arguments.wanted or runs[0]
    if wanted not in runs:
        raise Refused("report_missing", f"no report {wanted}; the newest are {', '.join(runs[:5])}")
    found = reports.read(store, arguments.schedule, wanted)
    return Result({"report": found, "html": reports.to_html(found), "text": reports.to_text(found)}, found["summary"])


def _runs(arguments: argparse.Namespace, environment: Environment) -> Result:
    runs = reports.list_runs(open_store(environment), arguments.schedule)
    return Result(runs, "\n".join(runs) or "no reports")
