"""`runbook security lockdown|unlock|status` (HerbisVeritas "Emergency Commands")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from ops.errors import EXIT_CODES, Refused

if TYPE_CHECKING:
    from ops.stack.session import Session
    from settings import Lockdown, Precautions

app = typer.Typer(help="Lock the shop down while it is attacked.", no_args_is_help=True)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command(
    epilog="[bold]Examples[/]: runbook security lockdown --reason 'SQL injection from many addresses'\n\n"
    "runbook security lockdown --reason drill --for 10m --allow 203.0.113.7 --yes\n\n" + EXIT_CODES
)
def lockdown(
    reason: Annotated[str, typer.Option(help="Why; clients are not shown it.")],
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="30m, 2h, 1d: then it ends by itself. Default: an hour (runbook:security).",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Who still comes in, besides runbook:security.allow; as often as needed."),
    ] = None,
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Only known clients come in, and read; admin paths are closed; no CronJob starts. Pods are not touched.

    It ends by the clock, also when nobody is there. Given again, it replaces the lockdown there is: to make it longer,
    or to let somebody in.
    """
    from ops.commands import lockdown as locking
    from ops.stack.stack_context import load_settings

    with report_errors(as_json):
        seconds = _seconds(for_) if for_ else None
        session = open_session(cwd, stack)
        wanted = _planned(load_settings(session.file).security, reason, seconds, allow or ())
        _show(wanted)
        if not yes and not confirm("Lock down?"):
            raise Refused("Not confirmed; nothing was changed.")
        done = locking.switch(session, lock_policy(break_lock, yes), wanted)
        line = f"Locked down {done['seconds']} s after the command began, until {_local(wanted.until)}"
        print_result(done, as_json, f"{line}: `runbook security unlock` ends it sooner.")


@app.command(epilog="[bold]Example[/]: runbook security unlock\n\n" + EXIT_CODES)
def unlock(
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Everybody comes in again, and CronJobs start. Needed after a lockdown that ended by itself, for the CronJobs."""
    from ops.commands import lockdown as locking

    with report_errors(as_json):
        session = open_session(cwd, stack)
        found = _standing(session)
        if found["state"] == "on":
            typer.echo(_told(found), err=True)
            if not yes and not confirm("Let everybody in again?"):
                raise Refused("Not confirmed; nothing was changed.")
        done = locking.switch(session, lock_policy(break_lock, yes), None)
        print_result(done, as_json, f"Not locked down, {done['seconds']} s after the command began.")


@app.command(
    epilog="[bold]Examples[/]: runbook security status\n\nrunbook security status --json | jq .secondsLeft\n\n"
    "Exit codes: 0 not locked down; 1 locked down, or over and not yet unlocked."
)
def status(stack: Stack = None, cwd: Cwd = HERE, as_json: AsJson = False) -> None:
    """Whether there is a lockdown, why, who comes in, and when it ends."""
    with report_errors(as_json):
        found = _standing(open_session(cwd, stack))
        print_json(found) if as_json else typer.echo(_told(found))
    raise typer.Exit(0 if found["state"] == "off" else 1)


def _standing(session: Session) -> dict[str, Any]:
    from ops.decisions import releases
    from ops.stack.stack_context import load_settings

    return releases.locked(load_settings(session.file).lockdown, datetime.now(UTC))


def _planned(security: Precautions, reason: str, seconds: int | None, allow: Sequence[str]) -> Lockdown:
    from pydantic import ValidationError

    try:
        return security.lockdown(reason, datetime.now(UTC), seconds=seconds, allow=allow)
    except ValidationError as error:
        options = {"allow": "--allow", "reason": "--reason"}
        told = [
            f"{options[str(item['loc'][0])] if item['loc'] else '--for'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise Refused(f"{'; '.join(told)}. Nothing was changed.") from None


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]*)([smhd])", text)
    if not found:
        raise Refused(f"--for {text!r}: write a number and a unit, such as 30m, 2h or 1d. Nothing was changed.")
    return int(found[1]) * _UNITS[found[2]]


def _show(wanted: Lockdown) -> None:
    who = ", ".join(wanted.allow) or "nobody: runbook:security.allow is empty, and there is no --allow"
    typer.echo(
        f"Comes in, and only reads: {who}\n"
        f"Closed for them, too: {', '.join(wanted.closed_paths) or 'nothing'}\n"
        f"CronJobs do not start, backups neither. It ends by itself at {_local(wanted.until)}.",
        err=True,
    )


def _told(found: dict[str, Any]) -> str:
    if found["state"] == "off":
        return "Not locked down."
    it = found["lockdown"]
    until = _local(datetime.fromisoformat(it["until"]))
    if found["state"] == "over":
        return (
            f"The lockdown ended at {until}: everybody comes in. CronJobs still wait: `runbook security unlock`, or "
            "the next deploy or rollback, starts them again."
        )
    return (
        f"Locked down until {until} ({found['secondsLeft']} s): {it['reason']}\n"
        f"Comes in: {', '.join(it['allow']) or 'nobody'}. Record: {it.get('incident', 'none')}."
    )


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
