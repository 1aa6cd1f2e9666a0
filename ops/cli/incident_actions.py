"""`runbook incident actions|action-done|remind` (HerbisVeritas "Post-Mortem Automatique")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ops.cli.common import READS, Invocation, command
from ops.cli.incident import Which, app, open_log

Within = Annotated[
    int | None, typer.Option("--due", min=0, metavar="DAYS", help="Only those due within so many days, or overdue.")
]


@command(
    app,
    options=READS,
    examples="runbook incident actions\nrunbook incident actions --due 7 --json",
    exit_codes="Exit codes: 0 none is overdue; 1 one is overdue.",
)
def actions(
    call: Invocation,
    due: Within = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are done.")] = False,
) -> None:
    """List the open actions of post-mortems, the one that is due first at the top."""
    from ops.commands.incident_actions import list_actions, today_utc

    today = today_utc()
    rows = [one.to_json(today) for one in list_actions(open_log(call), due, closed=everything)]
    if rows or call.as_json:
        call.show_rows(rows, _print)
    else:
        typer.echo("No action is due." if due is not None else "No action is open.", err=True)
    raise typer.Exit(1 if any(one["overdue"] for one in rows) else 0)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from ops.cli.formatting import print_table

    cells = [
        (one["incident"], str(one["number"]), one["due"], _state(one), one["owner"] or "unknown", one["what"])
        for one in rows
    ]
    print_table(("INCIDENT", "NUMBER", "DUE", "", "OWNER", "ACTION"), cells)


def _state(one: Mapping[str, Any]) -> str:
    if one["done"]:
        return "done"
    return "overdue" if one["overdue"] else f"{one['daysLeft']} days left"


@command(
    app,
    "action-done",
    options=READS,
    examples="runbook incident action-done 2 -i incident-reported-0007\n"
    "runbook incident action-done 1 'the timeout is 30 s' -i incident-reported-0007",
    exit_codes="Exit codes: 0 written; 2 refused, nothing was changed.",
)
def action_done(
    call: Invocation,
    number: Annotated[int, typer.Argument(min=1, help="Its number, as `runbook incident actions` shows it.")],
    text: Annotated[str, typer.Argument(help="What was done, for the log.")] = "",
    incident: Which = None,
) -> None:
    """Write down that an action of a post-mortem is done; without -i, of the newest incident."""
    from ops.commands.incident_actions import finish_action

    done = finish_action(open_log(call), incident, number, text)
    call.show(done, f"Action {number} of {done['incident']} is done.")


@command(
    app,
    options=READS,
    examples="runbook incident remind\nrunbook incident remind --due 7",
    exit_codes="Exit codes: 0 sent, or nothing is due; 1 a message was not sent.",
)
def remind(call: Invocation, due: Within = None) -> None:
    """Send the actions that are overdue or due soon (incidents.remindDays) to the channels of their incidents' levels.

    Run it once a day; the pipeline `drift` does.
    """
    from ops.commands.incident_actions import remind as send

    done = send(open_log(call), due)
    lines = [one["text"] for one in done["notified"]] or ["No action is due: nothing was sent."]
    call.show(done, "\n".join(lines))
    raise typer.Exit(0 if all(one["sent"] for one in done["notified"]) else 1)
