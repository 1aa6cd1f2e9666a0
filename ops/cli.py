"""The operator's command `runbook`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ops.errors import EXIT_CODES, OpsError, Refused
from settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.engine import Run
    from ops.rollback import Plan
    from ops.session import Session
    from ops.update import LockPolicy

app = typer.Typer(
    help="Releases of one stack: deploy, roll back, and see what runs.\n\n" + EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
quarantine_app = typer.Typer(help="Image digests that must not come back by accident.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")

Stack = Annotated[
    str | None,
    typer.Option("--stack", "-s", envvar="RUNBOOK_STACK", help="Stack; default: the selected one."),
]
Cwd = Annotated[Path, typer.Option("--cwd", "-C", help="The project's folder.", file_okay=False, exists=True)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
BreakLock = Annotated[
    bool,
    typer.Option(
        "--break-lock", help="Remove the lock of an update elsewhere that you know is gone (asks first)."
    ),
]
AllowQuarantined = Annotated[
    str | None,
    typer.Option(
        "--allow-quarantined", metavar="REASON", help="Take a quarantined image all the same; says why."
    ),
]
HERE = Path()
out = Console(soft_wrap=False)
err = Console(stderr=True, soft_wrap=True)


def main() -> None:
    """The console script."""
    app()


@app.command(
    epilog="[bold]Examples[/]: runbook deploy registry.example.com/shop:2.4.0 · "
    "runbook deploy registry.example.com/shop@sha256:… --git 1a2b3c --schema-min 2 --schema-max 3 --schema-level 3"
)
def deploy(
    image: Annotated[
        str, typer.Argument(help="registry/name:tag or registry/name@sha256:…; a tag is resolved once.")
    ],
    git: Annotated[str | None, typer.Option(help="Commit; default: the image's label.")] = None,
    version: Annotated[str | None, typer.Option(help="Version; default: the image's label.")] = None,
    schema_min: Annotated[
        int | None, typer.Option(min=0, help="Lowest schema level it serves on; default: label.")
    ] = None,
    schema_max: Annotated[
        int | None, typer.Option(min=0, help="Highest schema level it serves on; default: label.")
    ] = None,
    schema_level: Annotated[
        int | None, typer.Option(min=0, help="Level its migrations lead to; default: label.")
    ] = None,
    allow_downtime: Annotated[
        bool,
        typer.Option(
            "--allow-downtime", help="Migrate although the running version cannot serve on the new schema."
        ),
    ] = False,
    allow_quarantined: AllowQuarantined = None,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Release an image. When the update fails, the version that served before is put back.

    Checked before anything is changed: the image and its labels, the stack file, the quarantine, the database's
    schema level against what this and the running release can serve on, the cluster, the lock. A run that was
    killed is finished by the same command.
    """
    from ops import deploy as deploying

    levels = {"min": schema_min, "max": schema_max, "level": schema_level}
    wish = deploying.Wish(image, git, version, levels, allow_quarantined, allow_downtime)
    with _ended(as_json), _session(cwd, stack) as session:
        done = deploying.deploy(session, wish, _locks(break_lock, yes))
        _result(
            done,
            as_json,
            f"[green]Revision {done['revision']} serves[/] after {done['seconds']} s. {done['url'] or ''}",
        )


@app.command(
    epilog="[bold]Examples[/]: runbook rollback · runbook rollback --to 41 --yes --reason 'checkout is broken'"
)
def rollback(
    to: Annotated[
        int | None, typer.Option(min=1, metavar="REVISION", help="Default: the last good one before.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the quarantine.")] = "rolled back by hand",
    no_quarantine: Annotated[
        bool,
        typer.Option("--no-quarantine", help="Do not bar the image that is left behind from coming back."),
    ] = False,
    allow_quarantined: AllowQuarantined = None,
    preview: Annotated[
        bool | None,
        typer.Option("--preview/--no-preview", help="Show what the engine would do; default: unless --yes."),
    ] = None,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier release: its image, services and commands; never secrets or data. No migration runs.

    Refused when the database's schema is not one that release can serve on. The image left behind is
    quarantined. Ends when the old release is proven to serve, and says how long that took.
    """
    from ops import rollback as rolling

    wish = rolling.Wish(
        to, reason, not no_quarantine, allow_quarantined, not yes if preview is None else preview
    )

    def confirm(plan: Plan, run: Run | None) -> bool:
        _show_plan(plan, run)
        return yes or _ask("Roll back?")

    with _ended(as_json), _session(cwd, stack) as session:
        done = rolling.rollback(session, wish, _locks(break_lock, yes), confirm)
        line = f"[green]Revision {done['revision']} serves what revision {done['target']} served[/], {done['seconds']} s"
        _result(done, as_json, f"{line} after the command began. {done['url'] or ''}")


@app.command(
    epilog="[bold]Examples[/]: runbook history · runbook history --limit 100 --page 2 · runbook history --json"
)
def history(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page of that many.")] = 1,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Every update of the stack: revision, when, who, image, git, schema, result, duration."""
    from ops import show

    with _ended(as_json), _session(cwd, stack) as session:
        rows = show.history(session, limit, page)
        if as_json:
            _json(rows)
        elif rows:
            show.print_history(out, rows)
        else:
            err.print("No updates on this page." if page > 1 else "This stack was never deployed.")


@app.command(epilog="[bold]Examples[/]: runbook diff 41 · runbook diff 41 --json")
def diff(
    revision: Annotated[int, typer.Argument(min=1, help="Revision to compare with what stands now.")],
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """What differs between a revision and now: image, schema, services and commands."""
    from ops import show

    with _ended(as_json), _session(cwd, stack) as session:
        rows = show.diff(session, revision)
        if as_json:
            _json(rows)
        else:
            show.print_differences(out, rows, f"REVISION {revision}", "NOW")


@app.command(epilog="[bold]Examples[/]: runbook status · runbook status --json | jq .schema.database")
def status(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """What runs now: revision, image, schema, pods, health, lock, pending operations, quarantine.

    Exit code 0: healthy; 1: not healthy or never deployed; 2: the cluster could not be asked.
    """
    from ops import show

    with _ended(as_json), _session(cwd, stack) as session:
        found = show.status(session)
        if as_json:
            _json(found)
        else:
            show.print_status(out, found)
        if found["problems"] or not show.healthy(found):
            raise typer.Exit(2 if found["problems"] else 1)


@quarantine_app.command("list", epilog="[bold]Example[/]: runbook quarantine list")
def quarantine_list(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """The digests in quarantine, and why."""
    from ops import quarantine

    with _ended(as_json), _session(cwd, stack) as session:
        items = [item.to_config() for item in quarantine.listed(session)]
        if as_json:
            _json(items)
        for item in () if as_json else items:
            out.print(
                f"{item['digest']}  revision {item['revision']}  {escape(item['reason'])}", soft_wrap=True
            )


@quarantine_app.command("lift", epilog="[bold]Example[/]: runbook quarantine lift 3f2a9c")
def quarantine_lift(
    digest: Annotated[str, typer.Argument(help="Digest, or its first digits.")],
    stack: Stack = None,
    cwd: Cwd = HERE,
) -> None:
    """Let a digest be deployed again. Only the stack file is changed."""
    from ops import quarantine

    with _ended(as_json=False), _session(cwd, stack) as session:
        item = quarantine.lift(session, digest)
        out.print(f"{item.digest} may be deployed again (it was barred since revision {item.revision}).")


@contextmanager
def _session(cwd: Path, stack: str | None) -> Iterator[Session]:
    from ops.session import open_session

    yield open_session(cwd, stack)


def _locks(break_lock: bool, yes: bool) -> LockPolicy:
    from ops.update import LockPolicy

    return LockPolicy(break_lock, lambda question: yes or _ask(question))


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Refused(f"{question} There is no terminal to ask on: give --yes. Nothing was changed.")
    return typer.confirm(question, err=True)


@contextmanager
def _ended(as_json: bool) -> Iterator[None]:
    """Any failure that is foreseen ends as one message and its exit code."""
    try:
        yield
    except (OpsError, SettingsError) as error:
        code = error.exit_code if isinstance(error, OpsError) else Refused.exit_code
        if as_json:
            word = {1: "rolledBack", 2: "refused", 3: "failed", 4: "interrupted"}[code]
            _json({"result": word, "error": str(error).strip()})
        err.print(f"[red]error:[/] {escape(str(error).strip())}", highlight=False)
        raise typer.Exit(code) from None


def _result(done: Mapping[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        _json(done)
    else:
        out.print(line, highlight=False, soft_wrap=True)


def _json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _show_plan(plan: Plan, run: Run | None) -> None:
    from ops import show
    from ops.engine import short

    err.print(f"Back from revision {plan.leaving.revision} to the release of revision {plan.target}:")
    rows = [{"path": path, "then": then, "now": now} for path, then, now in plan.differences]
    show.print_differences(err, rows, "NOW", f"AS IN REVISION {plan.target}")
    if run:
        for op, urn in run.steps:
            err.print(f"  {op} {short(urn)}", highlight=False)


if __name__ == "__main__":
    main()
