"""`runbook maintenance on|off|status` (HerbisVeritas "Emergency Commands"; `enable` and `disable` as it names them)."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import READS, Invocation, command

app = typer.Typer(help="Serve a maintenance page (status 503) instead of the services.", no_args_is_help=True)


@command(app, "enable", examples="runbook maintenance enable 'moving the database'\nrunbook maintenance:enable why")
@command(app, examples="runbook maintenance on 'moving the database'")
def on(
    call: Invocation,
    reason: Annotated[str, typer.Argument(help="Why; customers do not see it.")],
    retry_after: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="The page's Retry-After.")] = 120,
) -> None:
    """Show customers the maintenance page. The services' pods keep running and are checked as before."""
    from ops.commands import maintenance
    from settings import Maintenance

    session = call.open_session()
    call.require_confirmation("Show every customer the maintenance page?")
    wanted = Maintenance(reason=reason, retry_after_seconds=retry_after)
    done = maintenance.switch_maintenance(session, call.lock_policy(), wanted)
    call.report(done, f"Maintenance mode is on ({reason}): `runbook maintenance off` ends it.")


@command(app, "disable", examples="runbook maintenance disable\nrunbook maintenance:disable")
@command(app, examples="runbook maintenance off")
def off(call: Invocation) -> None:
    """Route customers to the services again."""
    from ops.commands import maintenance

    done = maintenance.switch_maintenance(call.open_session(), call.lock_policy(), None)
    call.report(done, "Maintenance mode is off.")


@command(
    app,
    options=READS,
    examples="runbook maintenance status\nrunbook maintenance status --json | jq .state",
    exit_codes="Exit codes: 0 off; 1 on.",
)
def status(call: Invocation) -> None:
    """Show whether maintenance mode is on, and why."""
    from ops.commands import maintenance

    found = maintenance.read_maintenance(call.open_session())
    it = found["maintenance"]
    call.show(found, f"Maintenance mode is on: {it['reason']}" if it else "Maintenance mode is off.")
    raise typer.Exit(1 if it else 0)
