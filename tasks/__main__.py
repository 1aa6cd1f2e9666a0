"""`python -m tasks <group> …`: the tasks, each runnable from a shell and from a pod.

Progress goes to standard error. With --json the last line of standard output is the result, or the error, as JSON.
Exit codes: 0 done; 1 failed (a fault: try again, or look); 2 refused (bad configuration or input, nothing changed).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

from tasks.environment import Environment
from tasks.errors import Interrupted, TaskError, without
from tasks.result import Result

GROUPS = {
    "backup": ("tasks.backup.commands", "make, list and clean up backups; the gate of the release path"),
    "restore": ("tasks.restore.commands", "restore tests, restores beside and over the live database"),
    "evidence": ("tasks.restore.evidence_commands", "the hash-chained record of restore tests"),
    "credentials": ("tasks.credentials.commands", "make, test and retire PostgreSQL roles and Redis users"),
    "exporter": ("tasks.exporter", "metrics of the store and of the rotation of secrets"),
    "go-live": ("tasks.go_live.commands", "the go-live checklist, as far as it is tried in the application's network"),
    "debug": (
        "tasks.operations.commands",
        "slow queries, phases of a request, rate limits, business metrics; only reads",
    ),
    "validate": ("tasks.validation", "requests to a release in place"),
    "reach": ("tasks.reach", "wait until a server accepts connections"),
    "lighthouse": ("tasks.lighthouse.commands", "measure pages with Lighthouse and judge them by their budgets"),
    "pages": ("tasks.pages.commands", "measure the pages of the release that serves, and keep the results"),
    "maintenance": ("tasks.maintenance_tasks.commands", "run maintenance tasks, and read their reports"),
    "logs": ("tasks.logs.commands", "count security events in the logs of the application's pods"),
}
"""Group → a module with `configure(parser)`, which adds what it takes and sets `run`, and what the group is for.

`run(arguments, environment)` returns a `Result`. Imported only when it is asked for.
"""


def main(argv: list[str]) -> int:
    environment = Environment(dict(os.environ))
    arguments = _parse(argv)
    signal.signal(signal.SIGTERM, _end)
    try:
        result: Result = arguments.run(arguments, environment)
    except TaskError as error:
        return _failed(error.code, str(error), error.exit_code, arguments.json, environment)
    except (Interrupted, KeyboardInterrupt):
        return _failed("interrupted", "asked to end; what was half made is removed", 1, arguments.json, environment)
    except Exception as error:
        # A defect of this program: print the trace.
        print(without(environment.secrets, traceback.format_exc()), file=sys.stderr)
        message = f"{type(error).__name__}: {error}"
        return _failed("internal", message, 1, arguments.json, environment)
    print(json.dumps(result.data) if arguments.json else result.summary, flush=True)
    return result.exit_code


def _parse(argv: list[str]) -> argparse.Namespace:
    shown = "\n".join(f"  {name:12} {what}" for name, (_, what) in GROUPS.items())
    top = argparse.ArgumentParser(
        prog="python -m tasks",
        description=f"{__doc__}\ngroups:\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("group", choices=GROUPS, metavar="group")
    group = top.parse_args(argv[:1]).group
    module, what = GROUPS[group]
    parser = argparse.ArgumentParser(prog=f"python -m tasks {group}", description=what)
    parser.add_argument("--json", action="store_true", help="one line of JSON as the last line of standard output")
    importlib.import_module(module).configure(parser)
    # `--json` is taken wherever it stands, before the verb or after its flags.
    rest = [word for word in argv[1:] if word != "--json"]
    return parser.parse_args(["--json", *rest] if len(rest) < len(argv[1:]) else rest)


def _failed(code: str, message: str, exit_code: int, as_json: bool, environment: Environment) -> int:
    message = without(environment.secrets, message)
    print(f"error: {message}", file=sys.stderr, flush=True)
    if as_json:
        failure: dict[str, Any] = {"error": {"code": code, "message": message}}
        print(json.dumps(failure), flush=True)
    return exit_code


def _end(_signal: int, _frame: object) -> NoReturn:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
