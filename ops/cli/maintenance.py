"""`runbook maintenance on|off` (HerbisVeritas "Emergency Commands")."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import (
    HERE,
    AsJson,
    BreakLock,
    Cwd,
    Stack,
    Yes,
    lock_policy,
    open_session,
    print_result,
    report_errors,
)
from ops.errors import EXIT_CODES

app = typer.Typer(help="A page with status 503 in the services' place.", no_args_is_help=True)


@app.command(epilog="[bold]Example[/]: runbook maintenance on 'moving the database'\n\n" + EXIT_CODES)
def on(
    reason: Annotated[str, typer.Argument(help="Why; customers are not shown it.")],
    retry_after: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="What clients are told to wait.")] = 120,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Customers get the maintenance page. The services' pods stay and are checked as ever."""
    from ops.commands import maintenance
    from settings import Maintenance

    with report_errors(as_json):
        wanted = Maintenance(reason=reason, retry_after_seconds=retry_after)
        done = maintenance.switch(open_session(cwd, stack), lock_policy(break_lock, yes), wanted)
        print_result(done, as_json, f"Maintenance mode is on ({reason}): `runbook maintenance off` ends it.")


@app.command(epilog="[bold]Example[/]: runbook maintenance off\n\n" + EXIT_CODES)
def off(
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Customers reach the services again."""
    from ops.commands import maintenance

    with report_errors(as_json):
        done = maintenance.switch(open_session(cwd, stack), lock_policy(break_lock, yes), None)
        print_result(done, as_json, "Maintenance mode is off.")
