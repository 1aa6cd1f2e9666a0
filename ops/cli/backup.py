"""`runbook backup …` (runbook-de-production §2, §6)."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli import evidence
from ops.cli.common import ASKS, READS, Invocation, camel_keys, command

app = typer.Typer(help="Backups, and the restore tests that prove them.", no_args_is_help=True)
app.add_typer(evidence.app, name="evidence")


@command(app, options=READS, examples="runbook backup now")
def now(call: Invocation) -> None:
    """Back the database up now."""
    from ops.cli import formatting
    from ops.commands import backups

    made = backups.create_backup(call.open_session())
    rows = sum(made["tables"].values())
    call.show(camel_keys(made), f"{made['id']}: {formatting.format_size(made['size_bytes'])}, {rows} rows.")


@command(app, "list", options=READS, examples="runbook backup list\nrunbook backup list --json | jq '.[0].provenAt'")
def list_(call: Invocation) -> None:
    """List the backups, newest first, with the restore test that proves each."""
    from ops.cli import formatting
    from ops.commands import backups

    found = backups.list_backups(call.open_session())
    if found or call.as_json:
        # The keys of before stay beside the new ones: scripts read `proven_at`.
        rows = [{**item, **camel_keys(item)} for item in found]
        call.show_rows(rows, formatting.print_backups)
    else:
        typer.echo("There is no backup yet: `runbook backup now` makes one.", err=True)


@command(app, options=READS, examples="runbook backup verify\nrunbook backup verify 20260816T0200")
def verify(
    call: Invocation,
    backup: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the newest.")] = None,
) -> None:
    """Prove a backup: restore it into a temporary server, migrate it, start the release on it and check that."""
    from ops.commands import backups

    session = call.open_session()
    chosen = backups.find_backup(backups.list_backups(session), backup)["id"] if backup else None
    proof = backups.test_restore(session, chosen)
    times = f"RTO {proof['rto_seconds']:.0f} s, RPO {proof['rpo_seconds']:.0f} s"
    text = f"{proof['backup']} is proven by restore test {proof['sequence']}: {times}."
    call.show(camel_keys(proof), text)


@command(app, options=ASKS, examples="runbook backup cleanup --dry-run\nrunbook backup cleanup --yes")
def cleanup(
    call: Invocation,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
) -> None:
    """Delete what retention does not keep. The schedule does the same after every backup."""
    from ops.commands import backups

    session = call.open_session()
    if not dry_run and not call.yes:
        planned = backups.clean_up(session, dry_run=True)
        if not planned["deleted"]:
            call.show(camel_keys(planned), "Retention keeps every backup.")
            return
        typer.echo("\n".join(planned["deleted"]), err=True)
        call.require_confirmation(f"Delete these {len(planned['deleted'])} backups?")
    done = backups.clean_up(session, dry_run=dry_run)
    word = "would be deleted" if dry_run else "deleted"
    lines = [*done["deleted"], f"{len(done['deleted'])} {word}, {len(done['kept'])} kept."]
    call.show(camel_keys(done), "\n".join(lines))
