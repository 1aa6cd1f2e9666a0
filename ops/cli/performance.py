"""`runbook performance emergency-cache-clear|emergency-optimization` (HerbisVeritas "Emergency Commands"), and `pages`
("Performance Budgets")."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import READS, Invocation, command

if TYPE_CHECKING:
    from ops.commands.emergency_actions import Name

app = typer.Typer(help="What can be done at once while the shop is slow; how fast its pages are.", no_args_is_help=True)
Undo = Annotated[bool, typer.Option("--undo", help="Take it back.")]
_EXIT_CODES = "Exit codes: 0 done; 2 refused, nothing was changed; 3 a command failed."


@command(
    app,
    "emergency-cache-clear",
    examples="runbook performance emergency-cache-clear\nrunbook performance:emergency-cache-clear --yes",
    exit_codes=_EXIT_CODES,
)
def cache_clear(call: Invocation, undo: Undo = False) -> None:
    """Purge the caches: runbook:operations.cacheClear, or the command that a release runs (commands.cache)."""
    _run(call, "emergency-cache-clear", undo)


@command(
    app,
    "emergency-optimization",
    examples="runbook performance emergency-optimization\nrunbook performance emergency-optimization --undo\n"
    "runbook performance:emergency-optimization --yes",
    exit_codes=_EXIT_CODES,
)
def optimization(call: Invocation, undo: Undo = False) -> None:
    """Relieve the shop by what runbook:operations.optimization says; --undo takes it back."""
    _run(call, "emergency-optimization", undo)


@command(
    app,
    options=READS,
    examples="runbook performance pages\nrunbook performance pages --last 7d --html pages.html\n"
    "runbook performance pages --reports reports\nrunbook performance pages --json | jq '.pages[].decided.over'",
    exit_codes="Exit codes: 0 every page keeps its budgets; 1 one does not; 2 there is no result.",
)
def pages(
    call: Invocation,
    last: Annotated[str, typer.Option(metavar="TIME", help="24h, 7d.")] = "24h",
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also draw the history as one HTML file.", dir_okay=False),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write Lighthouse's reports of the last check.", file_okay=False),
    ] = None,
) -> None:
    """Show what the pages that serve were measured at, against their budgets (runbook:performance.continuous)."""
    from ops.cli.durations import parse_seconds
    from ops.commands.pages import read_checks, write_reports
    from ops.decisions.pages import describe_pages, has_missed_budget, list_pages, render_pages
    from ops.errors import Refused

    session = call.open_session()
    checks = read_checks(session, parse_seconds(last, "--last", "24h or 7d"))
    if not checks:
        raise Refused(f"No check has ended in the last {last}: `kubectl get cronjob page-check` shows when it ran.")
    try:
        if page:
            page.write_text(render_pages(checks, session.stack))
        written = write_reports(session, reports) if reports else []
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}.") from None
    for file in [page, *written]:
        if file:
            typer.echo(f"Written: {file}", err=True)
    found = list_pages(checks)
    call.show({"pages": found, "checks": checks}, describe_pages(found, checks))
    raise typer.Exit(1 if has_missed_budget(found) else 0)


def _run(call: Invocation, name: Name, undo: bool) -> None:
    from ops.commands import emergency_actions
    from ops.stack.stack_context import load_settings

    session = call.open_session()
    action = emergency_actions.find_action(load_settings(session.file), session.file.name, name, undo=undo)
    typer.echo(action.describe(undo=undo), err=True)
    call.require_confirmation("Take it back?" if undo else "Run it?")
    done = emergency_actions.run_action(session, call.lock_policy(), action, undo=undo)
    back = f" `{done['undo']}` takes it back." if done["undo"] else ""
    call.report(done, f"{'Taken back' if undo else 'Done'} in {done['seconds']} s: {done['lastLine']}{back}")
