"""`runbook maintenance on|off|status` (HerbisVeritas "Emergency Commands", with its names `enable` and `disable`), and
`run|report` ("Maintenance Préventive")."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.common import READS, Invocation, command

app = typer.Typer(
    help="Serve a maintenance page (status 503) instead of the services; run maintenance tasks and read reports.",
    no_args_is_help=True,
)
Schedule = Annotated[str, typer.Argument(metavar="SCHEDULE", help="daily, weekly or monthly.")]


@command(app, "enable", examples="runbook maintenance enable 'moving the database'\nrunbook maintenance:enable why")
@command(app, examples="runbook maintenance on 'moving the database'")
def on(
    call: Invocation,
    reason: Annotated[str, typer.Argument(help="Why; customers do not see it.")],
    retry_after: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="The page's Retry-After.")] = 120,
) -> None:
    """Show customers the maintenance page. The services' pods keep running and are checked as before."""
    from ops.commands import maintenance
    from settings import Maintenance

    session = call.open_session()
    call.require_confirmation("Show every customer the maintenance page?")
    wanted = Maintenance(reason=reason, retry_after_seconds=retry_after)
    done = maintenance.switch_maintenance(session, call.lock_policy(), wanted)
    call.report(done, f"Maintenance mode is on ({reason}): `runbook maintenance off` ends it.")


@command(app, "disable", examples="runbook maintenance disable\nrunbook maintenance:disable")
@command(app, examples="runbook maintenance off")
def off(call: Invocation) -> None:
    """Route customers to the services again."""
    from ops.commands import maintenance

    done = maintenance.switch_maintenance(call.open_session(), call.lock_policy(), None)
    call.report(done, "Maintenance mode is off.")


@command(
    app,
    options=READS,
    examples="runbook maintenance status\nrunbook maintenance status --json | jq .state",
    exit_codes="Exit codes: 0 off; 1 on.",
)
def status(call: Invocation) -> None:
    """Show whether maintenance mode is on, and why."""
    from ops.commands import maintenance

    found = maintenance.read_maintenance(call.open_session())
    it = found["maintenance"]
    call.show(found, f"Maintenance mode is on: {it['reason']}" if it else "Maintenance mode is off.")
    raise typer.Exit(1 if it else 0)


@command(
    app,
    options=READS,
    examples="runbook maintenance run daily\nrunbook maintenance run weekly --task reindex\n"
    "runbook maintenance run monthly --json | jq .changes",
    exit_codes="Exit codes: 0 done; 1 a task failed; 2 refused, or put off as a whole.",
)
def run(
    call: Invocation,
    schedule: Schedule,
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Only this; may be repeated.")
    ] = None,
) -> None:
    """Run the tasks of a schedule now, in a Job of its own. During a release, a restore or high load they wait."""
    from ops.commands import maintenance_tasks

    report = maintenance_tasks.run_tasks(call.open_session(), schedule, task or [])
    call.show(report, f"{report['summary']} ({report['key']}): `runbook maintenance report {schedule}`")
    all_put_off = all(step["result"] == "put off" for step in report["tasks"])
    raise typer.Exit(1 if report["result"] == "failed" else 2 if all_put_off else 0)


@command(
    app,
    options=READS,
    examples="runbook maintenance report daily\nrunbook maintenance report weekly --html weekly.html\n"
    "runbook maintenance report daily --list\nrunbook maintenance report daily --json | jq .changes",
    exit_codes="Exit codes: 0 the run was done or put off; 1 a task failed; 2 there is no such report.",
)
def report(
    call: Invocation,
    schedule: Schedule,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Default: the newest.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report as HTML.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only list the runs, newest first.")] = False,
) -> None:
    """Show the report of a run: what each task did, and what changed since the run before."""
    from ops.commands import maintenance_tasks

    session = call.open_session()
    if listed:
        runs = maintenance_tasks.list_runs(session, schedule)
        call.show(runs, "\n".join(runs) or f"No {schedule} maintenance has run yet.")
        return
    found = maintenance_tasks.read_report(session, schedule, run)
    if html:
        html.write_text(found["html"])
        typer.echo(f"Written: {html}", err=True)
    begins = f"\nThe next one begins at {found['next']}." if found["next"] else "\nNo next one is scheduled."
    call.show({**found["report"], "next": found["next"]}, found["text"] + begins)
    raise typer.Exit(1 if found["report"]["result"] == "failed" else 0)
