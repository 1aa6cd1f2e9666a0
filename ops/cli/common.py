"""What every command of `runbook` shares: its common options, how it asks, and how it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import Interrupted, OpsError, Refused

if TYPE_CHECKING:
    from ops.commands.update import LockPolicy
    from ops.stack.session import Session

Stack = Annotated[
    str | None,
    typer.Option("--stack", "-s", envvar=["RUNBOOK_STACK", "PULUMI_STACK"], help="Default: the selected stack."),
]
Cwd = Annotated[Path, typer.Option("--cwd", "-C", help="The project's folder.", file_okay=False, exists=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
BreakLock = Annotated[
    bool,
    typer.Option("--break-lock", help="Remove the lock of an update elsewhere that is known to be gone."),
]
HERE = Path()


def open_session(cwd: Path, stack: str | None) -> Session:
    from ops.stack import session

    return session.open_session(cwd, stack)


def lock_policy(break_lock: bool, yes: bool) -> LockPolicy:
    from ops.commands.update import LockPolicy

    return LockPolicy(break_lock, lambda question: yes or confirm(question))


def confirm(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Refused(f"{question} There is no terminal to ask on: give --yes. Nothing was changed.")
    return typer.confirm(question, err=True)


@contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """Any failure that is foreseen ends as one message and its exit code."""
    try:
        yield
        return
    except OpsError as error:
        end = error
    except typer.Abort:
        end = Refused("Not confirmed; nothing was changed.")
    except KeyboardInterrupt:
        end = Interrupted("Stopped. `runbook status` tells what stands.")
    message = str(end).strip()
    if as_json:
        words = {1: "rolledBack", 2: "refused", 3: "failed", 4: "interrupted"}
        causes = [cause.to_dict() for cause in end.causes]
        print_json({"result": words[end.exit_code], "error": message, "causes": causes})
    typer.echo(f"{typer.style('error:', fg='red')} {message}", err=True)
    raise typer.Exit(end.exit_code)


def print_result(done: Mapping[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        print_json(done)
    else:
        typer.secho(line, fg="green")
        if done["url"]:
            typer.echo(done["url"])


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
