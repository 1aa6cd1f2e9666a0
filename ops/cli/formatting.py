"""Rows of `history`, `diff`, backups and rotations, and their tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from ops.cli.common import Invocation
from ops.errors import Refused
from ops.stack.session import Session

Row = Mapping[str, Any]


def print_history(rows: Sequence[Row]) -> None:
    head = ("REVISION", "WHEN", "WHO", "ACTION", "IMAGE", "GIT", "SCHEMA", "RESULT", "TIME")
    print_table(head, [_cells(item) for item in rows])


def _cells(item: Row) -> tuple[str, ...]:
    return (
        str(item["revision"] or "-"),
        local_time(item["when"]),
        item["who"] or "-",
        f"{item['action']} of {item['rollbackOf']}" if item["rollbackOf"] else item["action"],
        shorten_image(item["image"]),
        str(item["git"] or "-")[:10],
        format_levels(item["schema"]),
        item["result"],
        "-" if item["seconds"] is None else f"{item['seconds']} s",
    )


def list_differences(session: Session, revision: int) -> list[dict[str, Any]]:
    """What differs between that revision and now: image, schema, services and commands."""
    from ops.decisions.rollback_target import describe_missing_revision, differences
    from ops.stack import stack_file

    past = session.history()
    entry = next((item for item in past.updates() if item.revision == revision), None)
    if entry is None:
        raise Refused(describe_missing_revision(past, revision))
    now = stack_file.read(session.file).config
    found = differences(entry.config, now)
    return [{"path": path, "then": then, "now": current} for path, then, current in found]


def print_differences(rows: Sequence[tuple[str, Any, Any]], then: str, now: str, *, err: bool = False) -> None:
    if rows:
        print_table(("WHAT", then, now), [(path, _text(a), _text(b)) for path, a, b in rows], err=err)
    else:
        print("No difference in image, schema, services or commands.", file=sys.stderr if err else sys.stdout)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, err: bool = False) -> None:
    """Aligned columns. Not rich's table, which folds cells when piped and is slow at a thousand rows."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *rows)
    ]
    typer.secho(lines[0], bold=True, err=err)
    typer.echo("\n".join(lines[1:]), err=err)


def local_time(when: str) -> str:
    """In the local time zone."""
    return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M:%S}"


def shorten_image(image: str | None) -> str:
    """The image with twelve digits of its digest."""
    if not image:
        return "-"
    name, _, digest = image.partition("@sha256:")
    return f"{name.rsplit('/', 1)[-1]}@{digest[:12]}" if digest else name


def format_levels(schema: Mapping[str, int] | None) -> str:
    if not schema:
        return "-"
    return str(schema["min"]) if schema["min"] == schema["max"] else f"{schema['min']} to {schema['max']}"


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def describe_restore(item: Row) -> str:
    """What a restore in place does to the data."""
    level = "" if item["schema_level"] is None else f", schema level {item['schema_level']}"
    return (
        f"Backup {item['id']} ({local_time(item['created_at'])}{level}) replaces the live database. What was written "
        "since is lost, except in the safety backup that is made first. Customers see the maintenance page meanwhile."
    )


def print_backups(rows: Sequence[Row]) -> None:
    head = ("BACKUP", "WHEN", "SIZE", "SCHEMA", "REVISION", "PROVEN")
    print_table(head, [_backup_cells(item) for item in rows])


def _backup_cells(item: Row) -> tuple[str, ...]:
    release, test = item["release"] or {}, item["last_test"]
    proven = local_time(item["proven_at"]) if item["proven_at"] else "not yet"
    if test and test["result"] != "passed":
        proven = f"FAILED {local_time(test['at'])}: {test['reason']}"
    return (
        item["id"],
        local_time(item["created_at"]),
        format_size(item["size_bytes"]),
        _text(item["schema_level"]),
        _text(release.get("revision")),
        proven,
    )


def show_report(call: Invocation, report: Row, *, failed: int) -> None:
    """Show a report; one with a failure ends the command with the exit code `failed`."""
    call.show_rows(report, _print_report)
    if report["result"] != "passed":
        raise typer.Exit(failed)


def _print_report(report: Row) -> None:
    """One line for each check; below it, what to do about a failure."""
    width = max(len(line["title"]) for line in report["lines"])
    marks = {"pass": ("ok", "green"), "fail": ("FAIL", "red"), "left out": ("-", "bright_black")}
    for line in report["lines"]:
        mark, colour = marks[line["result"]]
        limit = f" (limit {line['limit']})" if line["limit"] else ""
        typer.secho(f"{mark:4}  {line['title'].ljust(width)}  {line['evidence']}{limit}", fg=colour)
        if line["remedy"]:
            typer.echo(f"      {' ' * width}  remedy: {line['remedy']}")
    failed = sum(line["result"] == "fail" for line in report["lines"])
    signed = f"signed off by {report['by']}" if report["signedOff"] else f"{failed} of {len(report['lines'])} fail"
    typer.echo(f"{report['kind']}: {report['result']}, {signed}, {report['seconds']} s, {report['digest']}")
    if report.get("keptAs"):
        typer.echo(f"kept as {report['keptAs']}")


def print_rotations(rows: Sequence[Row]) -> None:
    head = ("SECRET", "KIND", "PERIOD", "PHASE", "AGE", "LIMIT", "NEXT", "PREVIOUS USED BY")
    print_table(head, [_rotation_cells(item) for item in rows])


_COMES = {
    "wait": "",
    "begin": "due since ",
    "give": "bring a new value, due since ",
    "retire": "previous to be retired since ",
    "resume": "interrupted, run it again: ",
    "never": "never",
}


def _rotation_cells(item: Row) -> tuple[str, ...]:
    users = item["previousUsedBy"]
    clients = "-" if users is None else ", ".join(f"{one['role']} x{one['count']}" for one in users) or "none"
    return (
        item["secret"],
        item["kind"],
        str(item["period"]),
        item["phase"] + (f": {item['failure']}" if item["failure"] else ""),
        format_days(item["ageSeconds"]),
        format_days(item["maxAgeSeconds"]) if item["maxAgeSeconds"] is not None else "-",
        _COMES[item["next"]["action"]] + (local_time(item["next"]["when"]) if item["next"]["when"] else ""),
        clients,
    )


def format_days(seconds: float) -> str:
    """Hours below two days, else days."""
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def format_size(count: int) -> str:
    """Bytes with a binary unit."""
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
