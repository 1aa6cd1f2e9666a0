"""`runbook performance emergency-cache-clear|emergency-optimization` (HerbisVeritas "Emergency Commands")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import Invocation, command

if TYPE_CHECKING:
    from ops.commands.emergency_actions import Name

app = typer.Typer(help="What can be done at once while the shop is slow.", no_args_is_help=True)
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
