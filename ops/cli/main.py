"""The operator's command `runbook`. What a command needs is loaded when it runs: reading starts fast."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import backup, maintenance, rotate, secrets, security
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
from ops.errors import EXIT_CODES

if TYPE_CHECKING:
    from ops.adapters.automation import Run
    from ops.commands.rollback import Plan

app = typer.Typer(
    help="Releases of one stack: deploy, roll back, and see what runs.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
quarantine_app = typer.Typer(help="Image digests that must not come back by accident.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(backup.app, name="backup")
app.command(epilog=backup.RESTORE_EXAMPLES)(backup.restore)
app.add_typer(maintenance.app, name="maintenance")
app.command(epilog=rotate.EXAMPLES)(rotate.rotate)
app.add_typer(secrets.app, name="secrets")
app.add_typer(security.app, name="security")

AllowQuarantined = Annotated[
    str | None,
    typer.Option("--allow-quarantined", metavar="REASON", help="Take a quarantined image, and say why."),
]


def main() -> None:
    """The console script."""
    # A killed engine cuts its event stream short: the message about that is ours to give.
    warnings.filterwarnings("ignore", message="Error in event stream")
    app()


@app.command(
    epilog="[bold]Examples[/]: runbook deploy registry.example.com/shop:2.4.0\n\n"
    "runbook deploy registry.example.com/shop@sha256:… --git 1a2b3c --schema-min 2 --schema-max 3 "
    "--schema-level 3"
    "\n\n" + EXIT_CODES
)
def deploy(
    image: Annotated[str, typer.Argument(help="registry/name:tag or registry/name@sha256:…")],
    git: Annotated[str | None, typer.Option(help="Commit; default: the image's label.")] = None,
    version: Annotated[str | None, typer.Option(help="Version; default: the image's label.")] = None,
    schema_min: Annotated[int | None, typer.Option(min=0, help="Lowest schema level it serves on.")] = None,
    schema_max: Annotated[int | None, typer.Option(min=0, help="Highest schema level it serves on.")] = None,
    schema_level: Annotated[int | None, typer.Option(min=0, help="Level its migrations lead to.")] = None,
    allow_downtime: Annotated[
        bool, typer.Option("--allow-downtime", help="Migrate although the running version cannot serve then.")
    ] = False,
    allow_quarantined: AllowQuarantined = None,
    without_proof: Annotated[
        str | None,
        typer.Option("--without-proof", metavar="REASON", help="Migrate although no backup was proven lately."),
    ] = None,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Release an image. When the update fails, the version that served before is put back.

    A tag is resolved to its digest once. Checked before anything is changed: the image and its labels, the
    stack file, the quarantine, the schema level of the database against what this and the running release can
    serve on, the cluster, the lock. A run that was killed is finished by the same command.
    """
    from ops.commands import deploy as deploying

    schema = {"min": schema_min, "max": schema_max, "level": schema_level}
    wish = deploying.Wish(image, git, version, schema, allow_quarantined, allow_downtime, without_proof)
    with report_errors(as_json):
        done = deploying.deploy(open_session(cwd, stack), wish, lock_policy(break_lock, yes))
        print_result(done, as_json, f"Revision {done['revision']} serves, {done['seconds']} s after the command began.")


@app.command(
    epilog="[bold]Examples[/]: runbook rollback\n\n"
    "runbook rollback --to 41 --yes --reason 'checkout is broken'\n\n" + EXIT_CODES
)
def rollback(
    to: Annotated[
        int | None, typer.Option(min=1, metavar="REVISION", help="Default: the last good one before.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the quarantine.")] = "rolled back by hand",
    no_quarantine: Annotated[
        bool, typer.Option("--no-quarantine", help="Let the image that is left behind come back.")
    ] = False,
    allow_quarantined: AllowQuarantined = None,
    restore_database: Annotated[
        bool,
        typer.Option("--restore-database", help="With the data of the backup made before the release left behind."),
    ] = False,
    preview: Annotated[
        bool | None,
        typer.Option("--preview/--no-preview", help="Ask the engine first; default: unless --yes."),
    ] = None,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier release: its image, services and commands; never secrets, and data only if asked.

    No migration runs: refused when the database's schema is not one which that release can serve on. The
    image left behind is quarantined. Ends when the old release is proven to serve.
    """
    from ops.commands import rollback as rolling

    asked = not yes and not restore_database if preview is None else preview
    wish = rolling.Wish(to, reason, not no_quarantine, allow_quarantined, asked, restore_database)

    def accepts(plan: Plan, run: Run | None) -> bool:
        _show_plan(plan, run)
        return yes or confirm("Roll back?")

    with report_errors(as_json):
        done = rolling.rollback(open_session(cwd, stack), wish, lock_policy(break_lock, yes), accepts)
        what = f"Revision {done['revision']} serves the release of revision {done['target']} again"
        print_result(done, as_json, f"{what}, {done['seconds']} s after the command began.")


@app.command(
    epilog="[bold]Examples[/]: runbook history\n\nrunbook history --limit 100 --page 2\n\nrunbook history --json"
)
def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page of that many.")] = 1,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Every update of the stack: revision, when, who, image, git, schema, result, duration."""
    from ops.cli import formatting

    with report_errors(as_json):
        rows = formatting.history(open_session(cwd, stack), limit, page)
        if as_json:
            print_json(rows)
        elif rows:
            formatting.print_history(rows)
        else:
            typer.echo("No updates on this page." if page > 1 else "This stack was never deployed.", err=True)


@app.command(epilog="[bold]Examples[/]: runbook diff 41\n\nrunbook diff 41 --json")
def diff(
    revision: Annotated[int, typer.Argument(min=1, help="Revision to compare with what stands now.")],
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """What differs between a revision and now: image, schema, services and commands."""
    from ops.cli import formatting

    with report_errors(as_json):
        rows = formatting.diff(open_session(cwd, stack), revision)
        if as_json:
            print_json(rows)
        else:
            pairs = [(item["path"], item["then"], item["now"]) for item in rows]
            formatting.print_differences(pairs, f"REVISION {revision}", "NOW")


@app.command(
    epilog="[bold]Examples[/]: runbook status\n\nrunbook status --json | jq .schema.database\n\n"
    "runbook status --budget\n\n"
    "Exit codes: 0 healthy; 1 not healthy, not finished or never deployed; 2 could not be asked. With --budget: "
    "0 kept; 1 above the limit."
)
def status(
    budget: Annotated[
        bool, typer.Option("--budget", help="Instead: how long a rollback takes at most, part by part.")
    ] = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """What runs now: revision, image, schema, pods, health, lock, pending operations, quarantine."""
    from ops.commands import status as looking

    with report_errors(as_json):
        if budget:
            from ops.commands import budget as counting

            counted = counting.budget(open_session(cwd, stack))
            print_json(counted) if as_json else counting.print_budget(counted)
            raise typer.Exit(0 if counted["kept"] else 1)
        found = looking.status(open_session(cwd, stack))
        if as_json:
            print_json(found)
        else:
            looking.print_status(found)
        if found["problems"] or not looking.healthy(found):
            raise typer.Exit(2 if found["problems"] else 1)


@quarantine_app.command("list", epilog="[bold]Example[/]: runbook quarantine list")
def quarantine_list(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """The digests in quarantine, and why."""
    from ops.commands import quarantine

    with report_errors(as_json):
        items = [item.to_config() for item in quarantine.list_quarantine(open_session(cwd, stack))]
        if as_json:
            print_json(items)
            return
        for item in items:
            typer.echo(f"{item['digest']}  revision {item['revision']}  {item['reason']}")


@quarantine_app.command("lift", epilog="[bold]Example[/]: runbook quarantine lift 3f2a9c")
def quarantine_lift(
    digest: Annotated[str, typer.Argument(help="Digest, or its first digits.")],
    stack: Stack = None,
    cwd: Cwd = HERE,
) -> None:
    """Let a digest be deployed again. Only the stack file is changed."""
    from ops.commands import quarantine

    with report_errors(as_json=False):
        item = quarantine.lift(open_session(cwd, stack), digest)
        typer.echo(f"{item.digest} may be deployed again; it was barred since revision {item.revision}.")


def _show_plan(plan: Plan, run: Run | None) -> None:
    from ops.adapters.automation import short
    from ops.cli import formatting

    leaving, target = plan.leaving.revision, plan.target
    typer.echo(f"Back from revision {leaving} to the release of revision {target}:", err=True)
    formatting.print_differences(plan.differences, "NOW", f"AS IN REVISION {target}", err=True)
    if plan.restore:
        typer.echo(formatting.of_backup(plan.restore), err=True)
    for op, urn in run.steps if run else ():
        typer.echo(f"  {op} {short(urn)}", err=True)


if __name__ == "__main__":
    main()
