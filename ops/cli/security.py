"""`runbook security lockdown|unlock|status` (HerbisVeritas "Emergency Commands")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import READS, Invocation, command
from ops.errors import Refused

if TYPE_CHECKING:
    from ops.stack.session import Session
    from settings import Lockdown, Precautions

app = typer.Typer(help="Lock the shop down while it is attacked.", no_args_is_help=True)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@command(
    app,
    examples="runbook security lockdown --reason 'SQL injection from many addresses'\n"
    "runbook security lockdown --reason drill --for 10m --allow 203.0.113.7 --yes",
)
def lockdown(
    call: Invocation,
    reason: Annotated[str, typer.Option(help="Why; clients do not see it.")],
    for_: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="30m, 2h, 1d: then it ends automatically. Default: an hour (runbook:security).",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Clients to admit besides runbook:security.allow; repeatable."),
    ] = None,
) -> None:
    """Admit only known clients, for reading; close admin paths; suspend CronJobs. Pods are not changed.

    It ends automatically when its time is over. Run again, it replaces the current lockdown: to extend it, or to
    admit another client. An automatic lockdown stays one: CronJobs go on.
    """
    from ops.commands import lockdown as locking
    from ops.decisions.release_state import extend_lockdown
    from ops.stack.stack_context import load_settings

    seconds = _parse_seconds(for_) if for_ else None
    session = call.open_session()
    wanted = _plan(load_settings(session.file).security, reason, seconds, allow or ())
    wanted = extend_lockdown(wanted, locking.find_standing(session))
    typer.echo(_describe_plan(wanted), err=True)
    call.require_confirmation("Lock down?")
    done = locking.switch_lockdown(session, call.lock_policy(), wanted)
    until = datetime.fromisoformat(done["lockdown"]["until"])
    line = f"Locked down {done['seconds']} s after the command began, until {_local_time(until)}"
    call.report(done, f"{line}: `runbook security unlock` ends it sooner.")


@command(app, examples="runbook security unlock")
def unlock(call: Invocation) -> None:
    """Admit all clients again and resume CronJobs. Also needed after a lockdown ended, to resume the CronJobs."""
    from ops.commands import lockdown as locking

    session = call.open_session()
    found = _read_lockdown(session)
    if found["state"] == "on":
        typer.echo(_describe(found), err=True)
        call.require_confirmation("Admit all clients again?")
    done = locking.switch_lockdown(session, call.lock_policy(), None)
    call.report(done, f"Not locked down, {done['seconds']} s after the command began.")


@command(
    app,
    options=READS,
    examples="runbook security status\nrunbook security status --json | jq .secondsLeft",
    exit_codes="Exit codes: 0 not locked down; 1 locked down, or over and not yet unlocked.",
)
def status(call: Invocation) -> None:
    """Show whether there is a lockdown, why, which clients it admits, and when it ends."""
    found = _read_lockdown(call.open_session())
    call.show(found, _describe(found))
    raise typer.Exit(0 if found["state"] == "off" else 1)


def _read_lockdown(session: Session) -> dict[str, Any]:
    from ops.decisions.release_state import describe_lockdown
    from ops.stack import stack_file
    from ops.stack.stack_context import load_settings

    settings = load_settings(session.file)
    if settings.lockdown is None:
        return describe_lockdown(None, datetime.now(UTC))
    clock = session.cluster(settings, stack_file.read(session.file).config).read_clock()
    return describe_lockdown(settings.lockdown, clock.now())


def _plan(security: Precautions, reason: str, seconds: int | None, allow: Sequence[str]) -> Lockdown:
    from pydantic import ValidationError

    try:
        return security.lockdown(reason, datetime.now(UTC), seconds=seconds, allow=allow)
    except ValidationError as error:
        options = {"allow": "--allow", "reason": "--reason"}
        problems = [
            f"{options[str(item['loc'][0])] if item['loc'] else '--for'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise Refused(f"{'; '.join(problems)}. Nothing was changed.") from None


def _parse_seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]*)([smhd])", text)
    if not found:
        raise Refused(f"--for {text!r}: write a number and a unit, such as 30m, 2h or 1d. Nothing was changed.")
    return int(found[1]) * _UNITS[found[2]]


def _describe_plan(wanted: Lockdown) -> str:
    clients = ", ".join(wanted.allow) or "none: runbook:security.allow is empty, and there is no --allow"
    jobs = (
        "CronJobs are suspended, backups too."
        if wanted.suspends
        else "CronJobs go on, backups too, because the rollback controller began this lockdown."
    )
    return (
        f"Clients admitted, for reading only: {clients}\n"
        f"Paths closed to them, too: {', '.join(wanted.closed_paths) or 'none'}\n"
        f"{jobs} The lockdown ends automatically {wanted.until - wanted.since} after it began, by the clock of the "
        "cluster."
    )


def _describe(found: dict[str, Any]) -> str:
    if found["state"] == "off":
        return "Not locked down."
    it = found["lockdown"]
    until = _local_time(datetime.fromisoformat(it["until"]))
    if found["state"] == "over":
        return (
            f"The lockdown ended at {until}: all clients are admitted. CronJobs are still suspended: `runbook security "
            "unlock`, or the next deploy or rollback, resumes them."
        )
    return (
        f"Locked down until {until} ({found['secondsLeft']} s): {it['reason']}\n"
        f"Clients admitted: {', '.join(it['allow']) or 'none'}. Incident record: {it.get('incident', 'none')}."
    )


def _local_time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
