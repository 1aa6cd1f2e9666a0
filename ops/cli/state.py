"""`runbook state init|list|restore|copy|prune`: where the engine keeps what it knows of a stack."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import ASKS, READS, Invocation, command
from ops.cli.formatting import local_time, print_table

app = typer.Typer(help="The engine's state: its bucket, its copies, and a damaged one restored.", no_args_is_help=True)
_CODES = "Exit codes: 0 done; 2 refused, nothing was changed."


@command(
    app, options=("as_json", "yes"), exit_codes=_CODES, examples="runbook state init 's3://acme-state?region=eu-west-3'"
)
def init(call: Invocation, backend: Annotated[str, typer.Argument(help="s3://BUCKET?region=…")]) -> None:
    """Make a bucket for the state, or harden an existing one: private, versioned, encrypted, old versions expire."""
    from ops.stack.state_bucket import prepare_bucket

    call.require_confirmation(f"Make the bucket of {backend} if it is missing, and set its properties?")
    made, measures = prepare_bucket(backend)
    lines = [f"The bucket {'was made' if made else 'exists'}."]
    lines += [f"  {measure.name}: {measure.state}" for measure in measures]
    found = {"made": made, "properties": {measure.name: measure.state for measure in measures}}
    call.show(found, "\n".join([*lines, f"Next: pulumi login '{backend}'"]))


@command(
    app, "list", options=READS, exit_codes=_CODES, examples="runbook state list\nrunbook state list --limit 50 --json"
)
def list_(call: Invocation, limit: Annotated[int, typer.Option(min=1, help="How many.")] = 10) -> None:
    """List the states that can be restored: after each update, and the versions that a bucket keeps."""
    from ops.commands import state

    rows = [saved.to_dict() for saved in state.list_saved(call.open_session(), limit)]
    head = ("ID", "WRITTEN", "BYTES", "RESOURCES")
    call.show_rows(
        rows,
        lambda found: print_table(
            head,
            [
                (
                    row["id"],
                    local_time(row["written"]),
                    str(row["size"]),
                    str(row["resources"]) if row["readable"] else "damaged",
                )
                for row in found
            ],
        ),
    )


@command(app, options=ASKS, exit_codes=_CODES, examples="runbook state restore update:1795920402157644812")
def restore(call: Invocation, saved: Annotated[str, typer.Argument(help="ID, from `runbook state list`.")]) -> None:
    """Replace a damaged state by an earlier one. The cluster is not changed, and the replaced state is kept."""
    from ops.commands import state

    session = call.open_session()
    call.require_confirmation(
        f"Replace the state of {session.stack} by {saved}? What was made in the cluster since is then unknown to the "
        "engine until `pulumi refresh`."
    )
    done = state.restore_saved(session, saved)
    kept = f" The replaced state is kept in the backend's backups as {done['kept']}." if done["kept"] else ""
    call.show(done, f"The state has {done['resources']} resources.{kept}\nNext: pulumi refresh --preview-only")


@command(
    app,
    options=ASKS,
    exit_codes=_CODES,
    examples="runbook state copy 's3://acme-state?region=eu-west-3'\nrunbook state copy file:///var/backups/state",
)
def copy(call: Invocation, backend: Annotated[str, typer.Argument(help="s3://… or file://…")]) -> None:
    """Copy the stack with its history into another backend, each file compared: to move there, or as a backup."""
    from ops.commands import state

    session = call.open_session()
    call.require_confirmation(f"Copy the state of {session.stack} with its history to {backend}?")
    done = state.copy_state(session, backend)
    call.show(
        done,
        f"{done['files']} files are there, {done['copied']} of them copied now; the original stays.\n"
        f"To go on there: pulumi login '{backend}'",
    )


@command(
    app,
    options=ASKS,
    exit_codes=_CODES,
    examples="runbook state prune --keep 1000\nrunbook state prune --keep 1000 --dry-run --json",
)
def prune(
    call: Invocation,
    keep: Annotated[int, typer.Option(help="How many of the newest updates stay.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and end.")] = False,
) -> None:
    """Delete the oldest updates of the history, which `runbook history` and `rollback --to` then no longer know.

    What a rollback or the quarantine needs is kept, however old it is. A bucket with versions keeps what was deleted
    for a time.
    """
    from ops.commands import state

    session = call.open_session()
    plan = state.plan_pruning(session, keep)
    for stored, why in plan.spared:
        typer.echo(f"stays: {stored.entry.started:%Y-%m-%d %H:%M} {stored.entry.message.strip()} ({why})", err=True)
    shown = {"delete": [stored.name for stored in plan.delete], "spared": [stored.name for stored, _ in plan.spared]}
    if dry_run or not plan.delete:
        call.show({**shown, "deleted": 0}, f"{len(plan.delete)} updates would be deleted. Nothing was changed.")
        return
    newest, oldest = plan.delete[0].entry, plan.delete[-1].entry
    typer.echo(f"{len(plan.delete)} updates, of {oldest.started:%Y-%m-%d} to {newest.started:%Y-%m-%d}, go.", err=True)
    call.require_confirmation(f"Delete them from the history of {session.stack}?")
    done = state.prune_history(session, keep)
    call.show({**shown, **done}, f"{done['deleted']} updates were deleted ({done['files']} files).")
