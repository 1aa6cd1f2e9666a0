"""`runbook system restart` (HerbisVeritas "Emergency Commands": `system:restart`)."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import Invocation, command

app = typer.Typer(help="Restart the services.", no_args_is_help=True)


@command(
    app,
    examples="runbook system restart\nrunbook system restart backend --yes\nrunbook system:restart",
    exit_codes="Exit codes: 0 done; 1 new pods do not become ready, the old ones serve; 2 refused, nothing changed; "
    "3 failed, and going back failed too.",
)
def restart(
    call: Invocation,
    services: Annotated[list[str] | None, typer.Argument(metavar="SERVICE", help="Default: all.")] = None,
) -> None:
    """Replace the pods of each service by new ones of the same release, without downtime; data services stay."""
    from ops.commands import restart as restarting
    from ops.stack.stack_context import load_settings

    session = call.open_session()
    chosen = restarting.choose_services(load_settings(session.file), services or ())
    for one in chosen:
        pods = f"{one.least_replicas}" if one.least_replicas == one.most_replicas else f"up to {one.most_replicas}"
        typer.echo(f"{one.name}: {pods} pods, each replaced when a new one is ready", err=True)
    call.require_confirmation("Restart?")
    done = restarting.restart(session, call.lock_policy(), [one.name for one in chosen])
    call.report(done, f"Restarted {', '.join(one['service'] for one in done['services'])} in {done['seconds']} s.")
