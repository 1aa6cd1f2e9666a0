"""`runbook doctor`: can a first release work?"""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.common import Invocation
from ops.errors import Refused

EXAMPLES = """runbook doctor registry.example.com/shop:2.4.0 --stack staging
runbook doctor --json | jq '.lines[] | select(.result == "fail")'
runbook doctor --without database='this machine is outside its network'"""


def doctor(
    call: Invocation,
    image: Annotated[
        str | None, typer.Argument(help="Image of the first release; default: the one in the file.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="LINE=REASON", help="Leave a line out; repeat it.")
    ] = None,
) -> None:
    """Find what keeps a first release from working: this machine, login, stack, cluster, images, database.

    Each line that fails names the command that mends it. Nothing is changed.
    """
    from ops.cli import formatting
    from ops.commands import doctor as examining

    reasons = {name: reason for name, _, reason in (one.partition("=") for one in without or ())}
    if empty := [name for name, reason in reasons.items() if not reason.strip()]:
        raise Refused(f"--without {empty[0]} has no reason: write --without {empty[0]}=REASON.")
    done = examining.examine(call.cwd, call.stack, image, reasons)
    formatting.show_report(call, done, failed=2)
