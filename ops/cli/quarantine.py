"""`runbook quarantine list|lift`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.cli.common import ASKS, READS, Invocation, command

app = typer.Typer(help="Image digests that a deploy refuses.", no_args_is_help=True)


@command(app, "list", options=READS, exit_codes="", examples="runbook quarantine list")
def list_(call: Invocation) -> None:
    """List the digests in quarantine, and why."""
    from ops.commands import quarantine

    rows = [item.to_config() for item in quarantine.list_quarantine(call.open_session())]
    call.show_rows(rows, _print)


@command(app, options=ASKS, examples="runbook quarantine lift 3f2a9c")
def lift(
    call: Invocation,
    digest: Annotated[str, typer.Argument(help="Digest, or its first digits.")],
) -> None:
    """Let a digest be deployed again. Only the stack file is changed."""
    from ops.commands import quarantine

    session = call.open_session()
    call.require_confirmation(f"Let {digest} be deployed again?")
    item = quarantine.lift(session, digest)
    call.show(item.to_config(), f"{item.digest} may be deployed again; it was barred since revision {item.revision}.")


def _print(rows: Any) -> None:
    for item in rows:
        typer.echo(f"{item['digest']}  revision {item['revision']}  {item['reason']}")
