"""`runbook backup …` and `runbook restore` (runbook-de-production §2, §6)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.cli.common import (
    HERE,
    AsJson,
    BreakLock,
    Cwd,
    Stack,
    Yes,
    confirm,
    lock_policy,
    open_session,
    print_json,
    print_result,
    report_errors,
)
from ops.errors import EXIT_CODES, Refused

app = typer.Typer(help="Backups, and the tests that prove them.", no_args_is_help=True)
RESTORE_EXAMPLES = (
    "[bold]Examples[/]: runbook restore 20260816T0200 --into shop_of_sunday\n\n"
    "runbook restore 20260816T0200 --in-place\n\nrunbook restore --undo\n\n" + EXIT_CODES
)


@app.command(epilog="[bold]Example[/]: runbook backup now")
def now(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """Back the database up now."""
    from ops.cli import formatting
    from ops.commands import backups

    with report_errors(as_json):
        made = backups.create_backup(open_session(cwd, stack))
        _told(
            made, as_json, f"{made['id']}: {formatting.size(made['size_bytes'])}, {sum(made['tables'].values())} rows."
        )


@app.command(
    "list", epilog="[bold]Examples[/]: runbook backup list\n\nrunbook backup list --json | jq '.[0].proven_at'"
)
def list_(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """Every backup, newest first, and what proves it."""
    from ops.cli import formatting
    from ops.commands import backups

    with report_errors(as_json):
        found = backups.list_backups(open_session(cwd, stack))
        if as_json:
            print_json(found)
        elif found:
            formatting.print_backups(found)
        else:
            typer.echo("There is no backup yet: `runbook backup now` makes one.", err=True)


@app.command(epilog="[bold]Examples[/]: runbook backup verify\n\nrunbook backup verify 20260816T0200")
def verify(
    backup: Annotated[str | None, typer.Argument(metavar="[ID]", help="Default: the newest.")] = None,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Prove a backup: restore it into a throw-away server, migrate it, start the release on it and check that."""
    from ops.commands import backups

    with report_errors(as_json):
        session = open_session(cwd, stack)
        chosen = backups.find_backup(backups.list_backups(session), backup)["id"] if backup else None
        proof = backups.test_restore(session, chosen)
        times = f"RTO {proof['rto_seconds']:.0f} s, RPO {proof['rpo_seconds']:.0f} s"
        _told(proof, as_json, f"{proof['backup']} is proven by restore test {proof['sequence']}: {times}.")


@app.command(epilog="[bold]Example[/]: runbook backup cleanup --dry-run")
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Delete what retention does not keep. The schedule does so after every backup."""
    from ops.commands import backups

    with report_errors(as_json):
        session = open_session(cwd, stack)
        if not dry_run and not yes:
            going = backups.clean_up(session, dry_run=True)["deleted"]
            if not going:
                typer.echo("Retention keeps every backup.", err=True)
                return
            typer.echo("\n".join(going), err=True)
            if not confirm(f"Delete these {len(going)} backups?"):
                raise Refused("Not confirmed; nothing was changed.")
        done = backups.clean_up(session, dry_run=dry_run)
        word = "would be deleted" if dry_run else "deleted"
        _told(done, as_json, "\n".join([*done["deleted"], f"{len(done['deleted'])} {word}, {len(done['kept'])} kept."]))


def restore(
    backup: Annotated[str | None, typer.Argument(metavar="[ID]", help="Backup, or how its id begins.")] = None,
    into: Annotated[
        str | None, typer.Option("--into", metavar="NEW", help="Into a new database beside the live one.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="In the live database's place.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the database from before the restore back.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the database that a restore left.")] = False,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Restore a backup: beside the live database (--into), or in its place (--in-place).

    In place: maintenance mode on, a safety backup, the restored copy takes the live database's place, the release
    is checked on it, maintenance off. When a check fails the old database comes back. A run that was killed is
    continued by the same command, or taken back with --undo. Without options: where a restore in place stands.
    """
    from ops.commands import restore as restoring

    with report_errors(as_json):
        ways = [bool(into), in_place, undo, finish]
        if sum(ways) > 1:
            raise Refused("Give one of --into, --in-place, --undo and --finish.")
        if bool(backup) != bool(into or in_place):
            raise Refused(
                "Say what to do with the backup: --into NEW or --in-place."
                if backup
                else "Give the backup's ID (`runbook backup list`), or none to see where a restore in place stands."
            )
        session = open_session(cwd, stack)
        if backup and into:
            made = restoring.into(session, backup, into)
            _told(made, as_json, f"{made['backup']} is in database {made['database']}: {made['url']}")
        elif backup:
            done = restoring.in_place(session, backup, lock_policy(break_lock, yes), lambda item: _agreed(item, yes))
            print_result(done, as_json, f"The database is that of {done['backup']}, {done['seconds']} s later.")
        elif undo:
            done = restoring.undo(session, lock_policy(break_lock, yes))
            print_result(done, as_json, "The database is what it was before the restore.")
        elif finish:
            if not yes and not confirm("Drop the database that the restore left beside the live one?"):
                raise Refused("Not confirmed; nothing was changed.")
            _told(restoring.finish(session), as_json, "Only the live database is left.")
        else:
            told = restoring.state(session)
            of = f", backup {told['backup']}" if told["backup"] else ""
            _told(told, as_json, f"{told['live']}: {told['phase']}{of}")


def _agreed(item: Any, yes: bool) -> bool:
    from ops.cli import formatting

    typer.echo(formatting.of_backup(item), err=True)
    return yes or confirm("Restore in place?")


def _told(value: Any, as_json: bool, line: str) -> None:
    if as_json:
        print_json(value)
    else:
        typer.echo(line)
