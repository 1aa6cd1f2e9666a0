"""`runbook rotate …` (HerbisVeritas "Rotation Clés Sécurité", runbook-de-production §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.common import READS, Invocation, command
from ops.cli.renamed import RenamedGroup

if TYPE_CHECKING:
    from ops.decisions.rotation import Left


class _Group(RenamedGroup):
    modes = {"--due": "due", "--emergency": "emergency", "status": "status"}

    def choose(self, args: Sequence[str]) -> str:  # noqa: ARG002
        return "start"


app = typer.Typer(cls=_Group, help="Replace secrets without a failed request.", no_args_is_help=True)
_NAMES = typer.Argument(metavar="NAME…", help="Secrets, or the first characters of their names.")


@command(
    app,
    options=READS,
    exit_codes="",
    examples="runbook rotate status\nrunbook rotate status --json | jq '.[].ageSeconds'",
)
def status(call: Invocation) -> None:
    """Show the age of each secret, what comes next, and which clients still use a previous value."""
    from ops.cli import formatting
    from ops.stack import rotation_status

    call.show_rows(rotation_status.read_rotation_status(call.open_session()), formatting.print_rotations)


@command(
    app,
    examples="runbook rotate start jwt-secret database-url\nrunbook rotate start stripe-webhook < new-secret\n"
    "runbook rotate start jwt-secret --no-overlap",
)
def start(
    call: Invocation,
    names: Annotated[list[str], _NAMES],
    no_overlap: Annotated[
        bool,
        typer.Option("--no-overlap", help="Retire the previous values at once, also of an overlap that runs."),
    ] = False,
) -> None:
    """Rotate these secrets: the new value is tested, then used, then the previous one is retired.

    The previous value is accepted for its overlap. A value that comes from outside is read without echo, or from
    standard input. The same command continues a rotation that was killed; when a check fails, the previous value is
    used again.
    """
    from ops.commands import rotate as rotating
    from ops.stack.secret_values import read_values

    session = call.open_session()
    if no_overlap:
        call.require_confirmation(f"Retire the previous values of {', '.join(names)} without an overlap?")
    done = rotating.rotate(session, names, call.lock_policy(), read_values, overlap=not no_overlap)
    call.report(done, f"{', '.join(done['rotated'])}: rotated, {done['seconds']} s.")


@command(app, examples="runbook rotate due")
def due(call: Invocation) -> None:
    """Do what the schedules say, and only that: begin, continue or retire."""
    from ops.commands import rotate as rotating

    done = rotating.rotate_due(call.open_session(), call.lock_policy())
    call.report(done, _describe_due(done))


@command(app, examples="runbook rotate emergency --reason 'laptop stolen'")
def emergency(
    call: Invocation,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Default: all.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the incident record.")] = "",
) -> None:
    """Replace secrets at once because one leaked: no overlap, old values are revoked, all sessions end."""
    from ops.commands import emergency as emergencies

    def confirm(chosen: Sequence[str], left: Sequence[Left]) -> bool:
        typer.echo(f"New values for {', '.join(chosen)}. Old values are revoked at once; all sessions end.", err=True)
        for each in left:
            typer.echo(f"Not {each.secret}, which {each.why}.", err=True)
        return call.confirm("Rotate now?")

    done = emergencies.rotate_at_once(call.open_session(), names or [], call.lock_policy(), reason, confirm)
    call.report(done, _describe_emergency(done))


@command(app, examples="runbook rotate repair\nrunbook rotate repair database-url --yes --json")
def repair(
    call: Invocation,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Default: all logins.")] = None,
) -> None:
    """Bring roles and passwords at the servers back in line, after a copy from before a rotation was restored.

    For a provider's snapshot or point-in-time recovery, which brings old passwords back: the login that the stack uses
    is made again, and one that was retired is refused again; its sessions end. Neither the stack nor its pods change.
    """
    from ops.commands import repair as repairing

    def confirm(chosen: Sequence[str]) -> bool:
        typer.echo(f"Roles and passwords of {', '.join(chosen)} become those of the stack at its servers.", err=True)
        return call.confirm("Repair now?")

    done = repairing.repair_logins(call.open_session(), names or [], call.lock_policy(), confirm)
    call.report(done, _describe_repair(done))


def _describe_repair(done: Any) -> str:
    lines = []
    for name, found in done["repaired"].items():
        words = [f"{role} can log in again" for role in found["admitted"]]
        words += ["the previous login is refused again"] if found["refused"] else []
        lines.append(f"{name}: {', '.join(words) or 'nothing to repair'}.")
    return "\n".join(lines)


def _describe_due(done: Any) -> str:
    lines = [f"{name}: {state['phase']}" for name, state in done["rotated"].items()] or ["Nothing is due."]
    for item in done["notDue"]:
        if item["action"] == "never":
            lines.append(f"{item['secret']}: never rotates")
            continue
        need = f"DUE, run `runbook rotate start {item['secret']}`" if item["action"] == "give" else "not due"
        lines.append(f"{item['secret']}: {need} ({item['when'][:16]} UTC)")
    return "\n".join(lines)


def _describe_emergency(done: Any) -> str:
    names = ", ".join(done["rotated"])
    line = f"{names}: the old values are revoked, {done['seconds']} s. Record: {done['incident']}."
    left = [f"{each['secret']} {each['why']}: {each['then']}." for each in done["byHand"]]
    return "\n".join([line, *(["These are not replaced:"] if left else []), *left])
