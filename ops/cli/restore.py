"""`runbook restore status|start|undo|finish` (runbook-de-production §2, §6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ops.cli.common import CHANGES, READS, Invocation, camel_keys, command
from ops.cli.renamed import RenamedGroup
from ops.errors import Refused


class _Group(RenamedGroup):
    modes = {"--undo": "undo", "--finish": "finish"}

    def choose(self, args: Sequence[str]) -> str:
        options = {word.partition("=")[0] for word in args}
        named = bool(args) and not args[0].startswith("-")
        return "start" if named or options & {"--into", "--in-place"} else "status"


app = typer.Typer(cls=_Group, help="Restore a backup: beside the live database, or in its place.")


@command(
    app, options=READS, exit_codes="", examples="runbook restore status\nrunbook restore status --json | jq .phase"
)
def status(call: Invocation) -> None:
    """Show the phase of a restore in place, and of which backup it is."""
    from ops.commands import restore as restoring

    found = restoring.read_state(call.open_session())
    backup = f", backup {found['backup']}" if found["backup"] else ""
    call.show(camel_keys(found), f"{found['live']}: {found['phase']}{backup}")


@command(
    app,
    examples="runbook restore start 20260816T0200 --into shop_of_sunday\n"
    "runbook restore start 20260816T0200 --in-place",
)
def start(
    call: Invocation,
    backup: Annotated[str, typer.Argument(metavar="ID", help="Backup, or the first characters of its id.")],
    into: Annotated[
        str | None, typer.Option("--into", metavar="NEW", help="Into a new database beside the live one.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the live database.")] = False,
    of_another: Annotated[
        bool, typer.Option("--of-another", help="Accept a backup of another stack or server.")
    ] = False,
) -> None:
    """Restore a backup beside the live database (--into), or in its place (--in-place).

    In place: maintenance mode on, a safety backup, the restored copy replaces the live database, the release is
    checked on it, maintenance mode off. When a check fails, the old database is restored. The same command continues
    a run that was killed; `runbook restore undo` reverts it.
    """
    from ops.commands import restore as restoring

    if bool(into) == in_place:
        raise Refused("Choose one: --into NEW restores into a new database, --in-place replaces the live one.")
    session = call.open_session()
    if into:
        made = restoring.restore_into(session, backup, into, of_another=of_another)
        call.show(camel_keys(made), f"{made['backup']} is in database {made['database']}: {made['url']}")
    else:
        policy = call.lock_policy()
        done = restoring.restore_in_place(
            session, backup, policy, lambda item: _confirm(call, item), of_another=of_another
        )
        call.report(done, f"The database is that of {done['backup']}, {done['seconds']} s later.")


@command(app, examples="runbook restore undo")
def undo(call: Invocation) -> None:
    """Put the database from before the restore back, and turn maintenance mode off."""
    from ops.commands import restore as restoring

    session = call.open_session()
    call.require_confirmation("Put the database from before the restore back? What was written since is not in it.")
    done = restoring.undo(session, call.lock_policy())
    call.report(camel_keys(done), "The database is the one from before the restore.")


@command(app, options=CHANGES, examples="runbook restore finish")
def finish(call: Invocation) -> None:
    """Drop the database that a restore left beside the live one."""
    from ops.commands import restore as restoring

    session = call.open_session()
    call.require_confirmation("Drop the database that the restore left beside the live one?")
    call.show(camel_keys(restoring.finish(session, call.lock_policy())), "Only the live database is left.")


def _confirm(call: Invocation, backup: Any) -> bool:
    from ops.cli import formatting

    typer.echo(formatting.describe_restore(backup), err=True)
    return call.confirm("Restore in place?")
