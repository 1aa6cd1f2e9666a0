"""`runbook incident watch` and `procedures`, also `monitoring enhanced-mode` and `emergency assess-damage`
(HerbisVeritas "Incident Response")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import READS, Invocation, command
from ops.cli.incident import Which, app

if TYPE_CHECKING:
    from ops.stack.session import Session

monitoring_app = typer.Typer(help="Watch the stack more closely during an incident.", no_args_is_help=True)
emergency_app = typer.Typer(help="What can be done in an incident of level 1.", no_args_is_help=True)
_EXAMPLES = (
    "runbook incident watch\nrunbook monitoring enhanced-mode -i incident-reported-0007\n"
    "runbook monitoring:enhanced-mode"
)
_PROCEDURES = "runbook emergency {0}\nrunbook emergency:{0}"
_EXIT_CODES = "Exit codes: 0 the incident is resolved, or the watch ended; 2 refused, nothing was changed."


def _watch(
    call: Invocation,
    incident: Which = None,
    times: Annotated[int | None, typer.Option(min=1, help="End after so many observations.")] = None,
) -> None:
    """Enhanced mode: observe the stack by stricter limits, write what begins and ends into the log, and notify.

    What is still wrong is sent again, and so is an incident that no one answers. It ends with `incident resolve`, or
    Ctrl-C.
    """
    import threading

    from ops.commands.enhanced_mode import EnhancedMode, describe_limits
    from ops.commands.incident import IncidentLog
    from ops.commands.live import read_frame

    session = call.open_session()
    log = IncidentLog(session)

    def say(text: str) -> None:
        typer.echo(text, err=True)

    say(describe_limits(log))
    done = EnhancedMode(log, lambda: read_frame(session), say, threading.Event().wait).run(incident, times)
    call.show(
        done, f"Enhanced mode of {done['incident']} ended after {done['observations']} observations: {done['ended']}."
    )


command(app, "watch", options=READS, examples=_EXAMPLES, exit_codes=_EXIT_CODES)(_watch)
command(monitoring_app, "enhanced-mode", options=READS, examples=_EXAMPLES, exit_codes=_EXIT_CODES)(_watch)


@command(app, options=READS, examples="runbook incident procedures\nrunbook incident procedures --json", exit_codes="")
def procedures(call: Invocation) -> None:
    """Show the emergency procedures, and what each would do now: rollback, restart, maintenance, lockdown, restore."""
    rows = list_for(call.open_session())
    call.show_rows(rows, print_procedures)


for _name in ("assess-damage", "restore-service"):
    # Two steps of the runbook, which one list answers: what each procedure would do, with the command that does it.
    command(emergency_app, _name, options=READS, examples=_PROCEDURES.format(_name), exit_codes="")(procedures)


def list_for(session: Session) -> list[dict[str, Any]]:
    from ops.commands.procedures import read_procedures

    return [one.to_json() for one in read_procedures(session)]


def print_procedures(rows: Iterable[Mapping[str, Any]]) -> None:
    for one in rows:
        typer.secho(one["command"], bold=True, fg=None if one["possible"] else "yellow")
        typer.echo(f"  {one['effect']}")
