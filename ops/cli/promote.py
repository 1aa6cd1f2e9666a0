"""`runbook promote`: from one stack to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.common import Invocation
from ops.cli.formatting import print_table

if TYPE_CHECKING:
    from ops.commands.promote import Promotion

EXAMPLES = "runbook promote staging prod\nrunbook promote staging prod --yes --wait 1800"


def promote(
    call: Invocation,
    source: Annotated[str, typer.Argument(help="The stack that has served the release.")],
    target: Annotated[str, typer.Argument(help="The stack to release it on.")],
    allow_downtime: Annotated[
        bool, typer.Option("--allow-downtime", help="Migrate although the running version cannot serve then.")
    ] = False,
    without_proof: Annotated[
        str | None,
        typer.Option("--without-proof", metavar="REASON", help="Migrate although no backup was proven recently."),
    ] = None,
) -> None:
    """Release on one stack, by digest, exactly what another one serves.

    Refused unless the last update of the source succeeded with all its checks, and the source has served the release
    for `guards.promoteAfterMinutes` of the target, is healthy now, and no trigger of a rollback or a lockdown fired
    meanwhile. Shows what differs between the stacks beside the image; then all gates of `runbook deploy` apply.
    """
    from ops.commands import promote as promoting
    from ops.stack.session import open_session

    to = open_session(call.cwd, target)
    found = promoting.plan_promotion(open_session(call.cwd, source), to)
    if not call.as_json:
        _show(found, source, target)
    call.require_confirmation(f"Release it on {target}?")
    wish = {"allow_downtime": allow_downtime, "without_proof": without_proof}
    done = promoting.promote(to, found, call.lock_policy(), wish)
    text = f"Revision {done['revision']} serves, {done['seconds']} s after the command began."
    call.report({**done, "promotedFrom": source, "promotion": found.to_dict()}, text)


def _show(found: Promotion, source: str, target: str) -> None:
    release = found.candidate.release
    minutes = int(found.candidate.served.total_seconds() // 60)
    typer.echo(f"{source} has served {release.image} (git {release.git}) for {minutes} min.", err=True)
    if found.differences:
        typer.echo(f"Beside it, the stacks differ in {len(found.differences)} settings:", err=True)
        rows = [(path, _text(there), _text(here)) for path, there, here in found.differences]
        print_table(("SETTING", source.upper(), target.upper()), rows, err=True)


def _text(value: object) -> str:
    return "-" if value is None else str(value)
