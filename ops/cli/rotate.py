"""`runbook rotate` (HerbisVeritas "Rotation Clés Sécurité", runbook-de-production §4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

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

EXAMPLES = (
    "[bold]Examples[/]: runbook rotate jwt-secret database-url\n\nrunbook rotate stripe-webhook < new-secret\n\n"
    "runbook rotate --due\n\nrunbook rotate status\n\n"
    "runbook rotate --emergency --reason 'laptop stolen'\n\n" + EXIT_CODES
)
STATUS = "status"


def rotate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…|status]", help="Secrets, or how their names begin.")
    ] = None,
    due: Annotated[bool, typer.Option("--due", help="Advance what its schedule says, and only that.")] = False,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="New values at once, old ones dead, everybody logged out.")
    ] = False,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="Retire the previous values at once, also of an overlap that runs.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the incident record of an emergency.")] = "",
    break_lock: BreakLock = False,
    yes: Yes = False,
    stack: Stack = None,
    cwd: Cwd = HERE,
    as_json: AsJson = False,
) -> None:
    """Replace secrets without a failed request: the new value is tried, then used, then the old one is retired.

    The previous value is accepted for its overlap. A value that comes from outside is asked for without echo, or
    read from standard input. A rotation that was killed is continued by the same command; one whose check fails
    goes back to the previous value. `status` shows ages, what comes next and who still uses a previous value.
    """
    from ops.cli import formatting
    from ops.commands import emergency as emergencies
    from ops.commands import rotate as rotating
    from ops.stack import rotation_status
    from ops.stack.secret_values import read_values

    with report_errors(as_json):
        wanted = names or []
        session, policy = open_session(cwd, stack), lock_policy(break_lock, yes)
        if wanted == [STATUS]:
            rows = rotation_status.read_rotation_status(session)
            print_json(rows) if as_json else formatting.print_rotations(rows)
        elif due:
            if wanted or emergency or no_overlap:
                raise Refused("--due takes no names and no other way: it decides by the schedules.")
            done = rotating.due(session, policy)
            print_result(done, as_json, _due_line(done))
        elif emergency:
            done = emergencies.emergency(session, wanted, policy, reason, lambda these: yes or _agreed(these))
            print_result(done, as_json, _emergency_line(done))
        elif wanted:
            done = rotating.rotate(session, wanted, policy, read_values, overlap=not no_overlap)
            print_result(done, as_json, f"{', '.join(done['rotated'])}: rotated, {done['seconds']} s.")
        else:
            raise Refused("Say what to rotate: names, --due or --emergency; `runbook rotate status` lists them.")


def _agreed(names: Sequence[str]) -> bool:
    typer.echo(
        f"New values for {', '.join(names)}. The old ones die without an overlap and everybody is logged out.", err=True
    )
    return confirm("Rotate now?")


def _due_line(done: Any) -> str:
    lines = [f"{name}: {state['phase']}" for name, state in done["rotated"].items()] or ["Nothing is due."]
    for item in done["notDue"]:
        need = "DUE, bring its value" if item["action"] == "give" else "not due"
        lines.append(f"{item['secret']}: {need} ({item['when'][:16]} UTC)")
    return "\n".join(lines)


def _emergency_line(done: Any) -> str:
    line = f"{', '.join(done['rotated'])}: the old values are dead, {done['seconds']} s. Record: {done['incident']}."
    if done["left"]:
        line += f"\nRevoke at their provider, then `runbook rotate NAME --no-overlap`: {', '.join(done['left'])}"
    return line
