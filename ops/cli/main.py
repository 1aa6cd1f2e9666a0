"""The operator's command `runbook`. Each command imports what it needs when it runs, so that reading starts fast."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli import (
    backup,
    checks,
    debug,
    incident,
    incident_actions,  # noqa: F401 (adds its commands to `incident`)
    incident_watch,
    logs,
    maintenance,
    metrics,
    performance,
    quarantine,
    restore,
    rotate,
    secrets,
    security,
    state,
    system,
)
from ops.cli import doctor as examining
from ops.cli import init as initializing
from ops.cli import promote as promoting
from ops.cli.common import READS, Invocation, command
from ops.cli.durations import parse_seconds
from ops.cli.npm_names import NpmNames
from ops.errors import EXIT_CODES, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.adapters.automation import Run
    from ops.commands.rollback import Plan
    from ops.commands.status_topics import Topic

app = typer.Typer(
    cls=NpmNames,
    help="Releases of one stack: deploy, roll back, and see what runs.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
RELEASES, EMERGENCIES, DIAGNOSIS = "Releases", "Emergencies", "Diagnosis"
DATA, SECRETS, SET_UP = "Database", "Secrets", "Set-up"

AllowQuarantined = Annotated[
    str | None,
    typer.Option("--allow-quarantined", metavar="REASON", help="Accept a quarantined image, and say why."),
]


def main() -> None:
    """The console script."""
    # The event stream of a killed engine ends early; the command reports that itself.
    warnings.filterwarnings("ignore", message="Error in event stream")
    build_only(app, sys.argv[1:])
    app()


def build_only(app: typer.Typer, words: Sequence[str]) -> None:
    """Leave only the command that the words begin with, if one: to build all of them takes 40 ms."""
    first = words[0].partition(":")[0] if words else ""
    commands = [each for each in app.registered_commands if each.name == first]
    groups = [each for each in app.registered_groups if each.name == first]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"runbook {version('runbook')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Releases of one stack: deploy, roll back, and see what runs."""


@command(
    app,
    panel=RELEASES,
    examples="runbook deploy registry.example.com/shop:2.4.0\n"
    "runbook deploy registry.example.com/shop@sha256:… --git 1a2b3c --schema-min 2 --schema-max 3 --schema-level 3",
)
def deploy(
    call: Invocation,
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
        typer.Option("--without-proof", metavar="REASON", help="Migrate although no backup was proven recently."),
    ] = None,
    without_checks: Annotated[
        str | None,
        typer.Option("--without-checks", metavar="REASON", help="Release although the environment is not ready."),
    ] = None,
) -> None:
    """Release an image. When the update fails, the version that served before is restored.

    A tag is resolved to its digest once. Checked before anything is changed: the image and its labels, the
    stack file, the quarantine, the schema level of the database against what this and the running release can
    serve on, the environment (`runbook:checks`), the lock. The same command finishes a run that was killed.
    """
    from ops.commands import deploy as deploying

    schema = {"min": schema_min, "max": schema_max, "level": schema_level}
    wish = deploying.Wish(image, git, version, schema, allow_quarantined, allow_downtime, without_proof, without_checks)
    session = call.open_session()
    overrides = {
        "downtime": allow_downtime,
        "a quarantined image": allow_quarantined,
        "no proven backup": without_proof,
        "an environment that is not ready": without_checks,
    }
    if accepted := [name for name, given in overrides.items() if given]:
        call.require_confirmation(f"Deploy {image} and accept {' and '.join(accepted)}?")
    done = deploying.deploy(session, wish, call.lock_policy())
    call.report(done, f"Revision {done['revision']} serves, {done['seconds']} s after the command began.")


@command(
    app,
    panel=RELEASES,
    examples="runbook rollback\nrunbook rollback --to 41 --yes --reason 'checkout is broken'",
)
def rollback(
    call: Invocation,
    to: Annotated[
        int | None, typer.Option(min=1, metavar="REVISION", help="Default: the last good one before.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; recorded in the quarantine.")] = "rolled back by hand",
    no_quarantine: Annotated[
        bool, typer.Option("--no-quarantine", help="Do not quarantine the image that is rolled back.")
    ] = False,
    allow_quarantined: AllowQuarantined = None,
    restore_database: Annotated[
        bool,
        typer.Option("--restore-database", help="Also restore the backup made before the release rolled back."),
    ] = False,
    preview: Annotated[
        bool | None,
        typer.Option("--preview/--no-preview", help="Show the engine's preview first; default: unless --yes."),
    ] = None,
) -> None:
    """Go back to an earlier release: image, services, commands. Secrets stay, and so does the data.

    No migration runs: refused when that release cannot serve on the database's schema. The image that is rolled back
    is quarantined. The command ends when the earlier release is proven to serve.
    """
    from ops.commands import rollback as rolling

    previews = not call.yes and not restore_database if preview is None else preview
    wish = rolling.Wish(to, reason, not no_quarantine, allow_quarantined, previews, restore_database)

    def confirm(plan: Plan, run: Run | None) -> bool:
        _show_plan(plan, run)
        return call.confirm("Roll back?")

    done = rolling.rollback(call.open_session(), wish, call.lock_policy(), confirm)
    what = f"Revision {done['revision']} serves the release of revision {done['target']} again"
    call.report(done, f"{what}, {done['seconds']} s after the command began.")


@command(
    app,
    options=READS,
    panel=RELEASES,
    examples="runbook status\nrunbook status --json | jq .schema.database\nrunbook status --watch\n"
    "runbook status performance --last 1h\nrunbook status:health\nrunbook status --budget",
    exit_codes="Exit codes: 0 healthy; 1 not healthy, not finished or never deployed; 2 the cluster did not answer. "
    "With --budget: 0 kept; 1 above the limit.",
)
def status(
    call: Invocation,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="health|performance|security", help="One subject, in more detail."),
    ] = None,
    budget: Annotated[
        bool, typer.Option("--budget", help="Instead: how long a rollback takes at most, part by part.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="A live screen, also of alerts, requests, backups, rotations, incidents.")
    ] = False,
    every: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="--watch: from one refresh to the next.")] = 5,
    times: Annotated[int | None, typer.Option(min=1, help="--watch: end after so many refreshes.")] = None,
    last: Annotated[str, typer.Option(metavar="TIME", help="performance: what rates are over.")] = "5m",
) -> None:
    """Show what runs: revision, image, schema, pods, health, lock, pending operations, quarantine."""
    if topic:
        _show_topic(call, topic, last)
    if watch:
        from ops.cli import live
        from ops.commands.live import read_frame

        session = call.open_session()
        frame = live.watch(lambda: read_frame(session), every, times, as_json=call.as_json)
        raise typer.Exit(0 if frame and frame["healthy"] else 1)
    if budget:
        from ops.commands import budget as budgets

        counted = budgets.read_budget(call.open_session())
        call.show_rows(counted, budgets.print_budget)
        raise typer.Exit(0 if counted["kept"] else 1)
    from ops.commands import status as statuses

    found = statuses.read_status(call.open_session())
    call.show_rows(found, statuses.print_status)
    if found["problems"] or not statuses.is_healthy(found):
        raise typer.Exit(2 if found["problems"] else 1)


def _show_topic(call: Invocation, name: str, last: str) -> None:
    from ops.cli.status_topics import print_topic
    from ops.commands.status_topics import TOPICS, read_topic

    known: dict[str, Topic] = {one: one for one in TOPICS}
    topic = known.get(name)
    if topic is None:
        raise Refused(f"`runbook status {name}`: write one of {', '.join(TOPICS)}.")
    found = read_topic(call.open_session(), topic, parse_seconds(last, "--last"))
    call.show_rows(found, print_topic)
    raise typer.Exit(0 if found["healthy"] else 1)


@command(
    app,
    options=READS,
    panel=RELEASES,
    exit_codes="",
    examples="runbook history\nrunbook history --limit 100 --page 2\nrunbook history --json",
)
def history(
    call: Invocation,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    page: Annotated[int, typer.Option(min=1, help="Which page of that many.")] = 1,
) -> None:
    """List the updates of the stack: revision, when, who, image, git, schema, result, duration."""
    from ops.cli import formatting

    rows = call.open_session().reader.list_history(limit, page)
    if rows or call.as_json:
        call.show_rows(rows, formatting.print_history)
    else:
        typer.echo("No updates on this page." if page > 1 else "This stack was never deployed.", err=True)


@command(app, options=READS, panel=RELEASES, exit_codes="", examples="runbook diff 41\nrunbook diff 41 --json")
def diff(
    call: Invocation,
    revision: Annotated[int, typer.Argument(min=1, help="Revision to compare with the current one.")],
) -> None:
    """Compare a revision with the current one: image, schema, services and commands."""
    from ops.cli import formatting

    rows = formatting.list_differences(call.open_session(), revision)
    pairs = [(item["path"], item["then"], item["now"]) for item in rows]
    call.show_rows(rows, lambda _: formatting.print_differences(pairs, f"REVISION {revision}", "NOW"))


command(
    app,
    "check",
    options=READS,
    panel=RELEASES,
    examples=checks.CHECK_EXAMPLES,
    exit_codes="Exit codes: 0 ready; 2 a line fails, or nothing could be checked.",
)(checks.check)
command(
    app,
    "check-code",
    options=READS,
    panel=RELEASES,
    examples=checks.CHECK_CODE_EXAMPLES,
    exit_codes="Exit codes: 0 every step passes; 1 a step fails; 2 nothing could be run.",
)(checks.check_code)
command(
    app,
    "check-docs",
    options=("as_json",),
    panel=RELEASES,
    examples=checks.CHECK_DOCS_EXAMPLES,
    exit_codes="Exit codes: 0 no problem; 1 a link leads nowhere, or a document is old; 2 nothing could be checked.",
)(checks.check_docs)
command(
    app,
    "go-live",
    options=READS,
    panel=RELEASES,
    examples=checks.GO_LIVE_EXAMPLES,
    exit_codes="Exit codes: 0 every line passes; 1 a line fails; 2 nothing could be checked.",
)(checks.go_live)
for group, name, panel in (
    (quarantine.app, "quarantine", RELEASES),
    (maintenance.app, "maintenance", EMERGENCIES),
    (security.app, "security", EMERGENCIES),
    (incident.app, "incident", EMERGENCIES),
    (incident_watch.monitoring_app, "monitoring", EMERGENCIES),
    (incident_watch.emergency_app, "emergency", EMERGENCIES),
    (system.app, "system", EMERGENCIES),
    (performance.app, "performance", EMERGENCIES),
    (logs.app, "logs", DIAGNOSIS),
    (debug.app, "debug", DIAGNOSIS),
    (backup.app, "backup", DATA),
    (restore.app, "restore", DATA),
    (rotate.app, "rotate", SECRETS),
    (secrets.app, "secrets", SECRETS),
    (state.app, "state", SET_UP),
):
    app.add_typer(group, name=name, rich_help_panel=panel)
command(
    app,
    "metrics",
    panel=DIAGNOSIS,
    options=READS,
    examples=metrics.EXAMPLES,
    exit_codes="Exit codes: 0 shown; 2 refused: the stack file has no such metric, or PostgreSQL refuses its query; "
    "3 the query was cancelled.",
)(metrics.metrics)
command(
    app,
    "promote",
    panel=RELEASES,
    options=("cwd", "as_json", "yes", "break_lock", "wait"),
    examples=promoting.EXAMPLES,
)(promoting.promote)
command(
    app,
    "init",
    panel=SET_UP,
    options=("cwd", "as_json", "yes"),
    examples=initializing.EXAMPLES,
    exit_codes="Exit codes: 0 written; 2 refused, nothing was written.",
)(initializing.init)
command(
    app,
    "doctor",
    panel=SET_UP,
    options=READS,
    examples=examining.EXAMPLES,
    exit_codes="Exit codes: 0 a first release can work; 2 a line fails.",
)(examining.doctor)


def _show_plan(plan: Plan, run: Run | None) -> None:
    from ops.adapters.automation import short_name
    from ops.cli import formatting

    leaving, target = plan.leaving.revision, plan.target
    typer.echo(f"Back from revision {leaving} to the release of revision {target}:", err=True)
    formatting.print_differences(plan.differences, "NOW", f"AS IN REVISION {target}", err=True)
    if plan.kept:
        typer.echo(f"  {plan.kept}", err=True)
    if plan.restore:
        typer.echo(formatting.describe_restore(plan.restore), err=True)
    for op, urn in run.steps if run else ():
        typer.echo(f"  {op} {short_name(urn)}", err=True)


if __name__ == "__main__":
    main()
