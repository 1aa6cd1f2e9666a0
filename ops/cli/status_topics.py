"""What `runbook status health|performance|security` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from ops.cli.formatting import format_size, local_time, print_table
from ops.decisions.health_checks import answers_well

Found = Mapping[str, Any]


def print_topic(found: Found) -> None:
    printers: Mapping[str, Callable[[Found], None]] = {
        "health": _print_health,
        "performance": _print_performance,
        "security": _print_security,
    }
    printers[found["topic"]](found)
    if found["alerts"] is not None:
        typer.echo(f"alerts: {describe_alerts(found['alerts'])}")
    for note in found["notes"]:
        typer.secho(f"note: {note}", fg="yellow")


def describe_alerts(alerts: Iterable[Found]) -> str:
    return ", ".join(f"{one['name']} ({one['severity']})" for one in alerts) or "none"


def _print_health(found: Found) -> None:
    said = f"{found['status']} {found['detail']}" if found["status"] else f"no answer: {found['detail']}"
    typer.secho(f"health: {said} {found['url'] or ''}".rstrip(), fg="green" if answers_well(found["status"]) else "red")
    rows = [
        (str(one.get("name", "?")), str(one.get("status", "?")), str(one.get("detail", "")), _milliseconds(one))
        for one in found["checks"]
    ]
    if rows:
        print_table(("CHECK", "STATUS", "DETAIL", "TIME"), rows)
    for one in found["services"]:
        colour = "green" if one["settled"] else "red"
        typer.secho(f"{one['name']}: {one['ready']} of {one['wanted']} pods ready", fg=colour)
    for one in found["pods"]:
        typer.secho(f"{one['name']}: {one['problem']}", fg="red")


def _milliseconds(check: Found) -> str:
    took = check.get("durationMs")
    return f"{took} ms" if isinstance(took, int | float) else "-"


def _print_performance(found: Found) -> None:
    typer.echo(f"the last {found['spanSeconds']} s")
    rate, errors = found["requestsPerSecond"], found["errorPercent"]
    times = ", ".join(f"{name} {_time(value)}" for name, value in found["seconds"].items())
    limit = f" (limit {found['limitSeconds']:g} s)" if found["limitSeconds"] else ""
    most = f" (alert above {found['errorLimitPercent']:g} %)" if found["errorLimitPercent"] else ""
    typer.echo(f"requests: {'unknown' if rate is None else f'{rate:.2f} a second'}")
    typer.echo(f"errors: {'unknown' if errors is None else f'{errors:.2f} %'}{most}")
    typer.echo(f"response times: {times}{limit}")
    for name, head in (("slowRoutes", "SLOWEST ROUTES (95 %)"), ("failingRoutes", "ROUTES WITH ERRORS")):
        if found[name]:
            unit = _time if name == "slowRoutes" else "{:.3f} a second".format
            print_table((head, ""), [(route, unit(value)) for route, value in found[name].items()])
    cpu, memory = found["cpuCores"] or {}, found["memoryBytes"] or {}
    rows = [
        (pod, f"{1000 * cpu[pod]:.0f}m" if pod in cpu else "-", format_size(int(memory[pod])) if pod in memory else "-")
        for pod in dict.fromkeys((*cpu, *memory))
    ]
    if rows:
        print_table(("POD", "CPU", "MEMORY"), rows)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _print_security(found: Found) -> None:
    locked = found["lockdown"]
    said = "off" if locked["state"] == "off" else f"{locked['state']}: {locked['lockdown']['reason']}"
    typer.secho(f"lockdown: {said}", fg="green" if locked["state"] == "off" else "red")
    for one in found["incidents"]:
        typer.echo(f"open record: {one['name']} since {local_time(one['openedAt'])}: {one['reason'] or one['kind']}")
    for item in found["quarantine"]:
        typer.echo(f"quarantine: {item['digest'][:19]} revision {item['revision']}: {item['reason']}")
    for name, title in (("eventsOfADay", "security events of a day"), ("refusedOfADay", "refused requests of a day")):
        if found[name] is not None:
            counts = ", ".join(f"{key}: {value:.0f}" for key, value in found[name].items() if value)
            typer.echo(f"{title}: {counts or 'none'}")
    if found["overdueSecrets"] is not None:
        overdue = ", ".join(found["overdueSecrets"])
        typer.secho(f"overdue secrets: {overdue or 'none'}", fg="red" if overdue else None)
    if found["rotating"]:
        typer.echo("rotating: " + ", ".join(f"{name} ({phase})" for name, phase in found["rotating"].items()))
