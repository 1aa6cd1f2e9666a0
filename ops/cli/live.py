"""The live screen of `runbook status --watch`: at most 80 columns, one row for each subject."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ops.cli.formatting import format_levels, local_time, shorten_image
from ops.decisions.health_checks import answers_well

Frame = Mapping[str, Any]
WIDTH = 80
_ALERTS = 6


def watch(read: Callable[[], Frame], every: float, times: int | None, *, as_json: bool) -> Frame | None:
    """Refresh every so many seconds, until Ctrl-C or for so many times; the last frame."""
    pause = threading.Event()
    frame: Frame | None = None
    done = 0
    try:
        if as_json or not sys.stdout.isatty():
            while True:
                frame = read()
                print_frame(frame, as_json=as_json)
                done += 1
                if times and done >= times:
                    return frame
                pause.wait(every)
        with Live(Text("reading …"), auto_refresh=False, screen=True) as live:
            while True:
                frame = read()
                live.update(draw(frame, min(live.console.width, 2 * WIDTH)), refresh=True)
                done += 1
                if times and done >= times:
                    return frame
                pause.wait(every)
    except KeyboardInterrupt:
        return frame
    finally:
        if frame and not as_json and sys.stdout.isatty():
            # The screen is restored at the end; the last state stays.
            print_frame(frame, as_json=False)


def print_frame(frame: Frame, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(frame))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        console.print(draw(frame, console.width))


def draw(frame: Frame, width: int = WIDTH) -> Group:
    """The screen of a frame."""
    head = {True: "[green]healthy[/]", False: "[red]NOT HEALTHY[/]", None: "[yellow]unknown[/]"}[frame["healthy"]]
    title = Text.from_markup(f"[bold]{escape(frame['stack'])}[/] {head}  {local_time(frame['at'])}")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold", max_width=width - 14)
    for name, value in _rows(frame):
        table.add_row(name, value)
    return Group(title, table)


def _rows(frame: Frame) -> Iterator[tuple[str, str]]:
    status = frame["status"]
    if status:
        yield from _of_release(status)
        if frame["maintenance"]:
            yield "maintenance", f"[red]on: {escape(frame['maintenance']['reason'])}[/]"
        yield from _of_metrics(frame)
    for problem in frame["problems"]:
        yield "problem", f"[yellow]{escape(problem)}[/]"


def _of_release(status: Frame) -> Iterator[tuple[str, str]]:
    if not status["application"]:
        yield "application", "none"
    elif status["revision"] is None:
        yield "release", "never deployed: `runbook deploy IMAGE`"
        return
    else:
        unfinished = "" if status["finished"] else "  [yellow]not finished[/]"
        version = f", version {escape(status['version'])}" if status["version"] else ""
        yield "release", f"{status['revision']} ({status['action']}){version}{unfinished}"
        yield "image", escape(shorten_image(status["image"]))
    if (command := status["command"]) is not None:
        yield "in use", escape("{doing} by {user}@{host}, since {since}".format(**command))
    for one in status["services"]:
        colour = "green" if one["settled"] else "red"
        yield one["name"], f"[{colour}]{one['ready']} of {one['wanted']} pods ready[/]"
    if report := status["health"]:
        text = f"{report['status']} {report['detail']}" if report["status"] else f"no answer: {report['detail']}"
        yield "health", f"[{'green' if answers_well(report['status']) else 'red'}]{escape(text)}[/]"
    database = status["schema"]["database"]
    serves = format_levels(status["schema"]["release"])
    yield "schema", f"database at {'unknown' if database is None else database}, release serves {serves}"
    if last := status["lastUpdate"]:
        took = "" if last["seconds"] is None else f", {last['seconds']} s"
        yield (
            "last update",
            escape(f"{last['result']}, {local_time(last['when'])}{took}, by {last['who'] or 'unknown'}"),
        )
    if status["lockdown"]["state"] != "off":
        yield "lockdown", f"[red]{status['lockdown']['state']}, {status['lockdown'].get('secondsLeft')} s left[/]"


def _of_metrics(frame: Frame) -> Iterator[tuple[str, str]]:
    alerts = frame["alerts"]
    if alerts is None:
        yield "alerts", "[yellow]unknown[/]"
    elif not alerts:
        yield "alerts", "[green]none[/]"
    else:
        colours = {"critical": "red", "warning": "yellow"}
        shown = [f"[{colours.get(one['severity'], 'white')}]{escape(one['name'])}[/]" for one in alerts[:_ALERTS]]
        more = f" and {len(alerts) - _ALERTS} more" if len(alerts) > _ALERTS else ""
        yield "alerts", ", ".join(shown) + more
    requests = frame["requests"]
    rate, errors = requests["perSecond"], requests["errorPercent"]
    if rate is None:
        yield "requests", "[yellow]unknown[/]"
    else:
        failed = "no errors to count" if errors is None else f"{errors:.2f} % errors"
        yield "requests", f"{rate:.1f} a second, [{'red' if errors else 'green'}]{failed}[/]"
        times = [f"{name} {_milliseconds(requests[name])}" for name in ("p50", "p95", "p99")]
        yield "times", ", ".join(times)
    backups = frame["backups"]
    if backups["backupAge"] is not None:
        proven = "never proven" if backups["provenAge"] is None else f"proven {_age(backups['provenAge'])} ago"
        yield "backups", f"newest {_age(backups['backupAge'])} ago, last {proven}"
    if (rotations := frame["rotations"]) is not None:
        running = [f"{escape(name)} ({phase})" for name, phase in rotations["running"].items()]
        overdue = [f"[red]{escape(name)} overdue[/]" for name in rotations["overdue"]]
        yield "rotations", ", ".join([*overdue, *running]) or "none due or running"
    for one in frame["incidents"] or ():
        title = one.get("title") or one.get("reason") or one["kind"]
        yield "incident", f"[red]{escape(one['name'])}[/] {escape(str(title))}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
