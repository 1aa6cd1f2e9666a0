"""`runbook logs tail|search` (HerbisVeritas "Debugging Commands": `logs:tail`, `logs:search`)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import READS, Invocation, command
from ops.cli.durations import parse_seconds

if TYPE_CHECKING:
    from ops.adapters.pod_logs import PodLogs
    from ops.decisions.log_lines import Line

app = typer.Typer(help="Logs of all pods of the services, without the values of secrets.", no_args_is_help=True)

Level = Annotated[
    str | None, typer.Option(metavar="LEVEL", help="This level and more severe ones: trace … fatal. Plain text counts.")
]
Services = Annotated[list[str] | None, typer.Option("--service", help="Only this service; repeatable.")]
_QUERY = "A text, or a comparison of a JSON field (status>=500, user.id=42); repeatable: all have to match."


@command(
    app,
    options=READS,
    examples="runbook logs tail --level error\nrunbook logs tail --service backend --query 'status>=500' --since 10m\n"
    "runbook logs:tail --level=error",
    exit_codes="Pods of a rollout that begins meanwhile are followed too. Ctrl-C ends it. --json: one object a line.",
)
def tail(
    call: Invocation,
    level: Level = None,
    query: Annotated[list[str] | None, typer.Option(help=_QUERY)] = None,
    service: Services = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="Begin with lines of this time: 30s, 10m, 1h.")] = "10s",
    lines: Annotated[int | None, typer.Option(min=1, help="End after so many lines.")] = None,
) -> None:
    """Show log lines as they are written, of every pod of every service."""
    seconds = parse_seconds(since, "--since")
    logs = _open(call, service)
    with suppress(KeyboardInterrupt):
        _show(call, logs.follow(seconds), level, query or (), lines)


@command(
    app,
    options=READS,
    examples='runbook logs search --query payment_failed\nrunbook logs search --query "status>=500" --since 2h --json '
    "| jq .fields.route\nrunbook logs:search --query=payment_failed",
    exit_codes="Exit codes: 0 found; 1 no line matches; 2 refused. Searches what the nodes still have, of containers "
    "before their last restart too; nodes delete logs of pods that are gone.",
)
def search(
    call: Invocation,
    query: Annotated[list[str], typer.Option(help=_QUERY)],
    level: Level = None,
    service: Services = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 2h, 1d.")] = "1h",
    lines: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
) -> None:
    """Search the logs of every pod of every service, in the order of time."""
    seconds = parse_seconds(since, "--since")
    logs = _open(call, service)
    found = _show(call, logs.read(seconds), level, query, None, last=lines)
    if not found:
        typer.echo(f"No line of the last {since} matches.", err=True)
        raise typer.Exit(1)


def _open(call: Invocation, services: list[str] | None) -> PodLogs:
    from ops.adapters.pod_logs import PodLogs
    from ops.errors import Refused
    from ops.stack import stack_file
    from ops.stack.stack_context import load_settings

    session = call.open_session()
    settings = load_settings(session.file)
    known = [one.name for one in settings.application.services]
    if unknown := sorted(set(services or ()) - set(known)):
        raise Refused(f"There is no service {unknown[0]}: write one of {', '.join(known)}.")
    return PodLogs(session.cluster(settings, stack_file.read(session.file).config), tuple(services or ()))


def _show(
    call: Invocation,
    lines: Iterable[Line],
    level: str | None,
    queries: Iterable[str],
    most: int | None,
    last: int | None = None,
) -> int:
    """Print the lines that match; how many."""
    from collections import deque

    from ops.decisions.log_lines import at_least, matches, parse_level

    lowest = parse_level(level) if level else None
    wanted = tuple(queries)
    chosen = (line for line in lines if at_least(line, lowest) and matches(line, wanted))
    if last:
        chosen = deque(chosen, maxlen=last)
    shown = 0
    for line in chosen:
        _print(call, line)
        shown += 1
        if most and shown >= most:
            break
    return shown


_COLOURS = {3: "yellow", 4: "red", 5: "red"}


def _print(call: Invocation, line: Line) -> None:
    from datetime import datetime

    from ops.adapters.pod_logs import to_json
    from ops.decisions.log_lines import LEVELS, describe

    if call.as_json:
        typer.echo(to_json(line))
        return
    when = datetime.fromisoformat(line.time[:23] + "+00:00").astimezone()
    word = "-" if line.level is None else LEVELS[line.level]
    colour = _COLOURS.get(line.level or 0)
    head = typer.style(f"{when:%H:%M:%S}.{when.microsecond // 1000:03} {line.pod}", dim=True)
    typer.echo(f"{head} {typer.style(f'{word:5}', fg=colour)} {describe(line)}")
