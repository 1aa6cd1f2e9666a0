"""Remind of actions of post-mortems that are due and, with `runbook:incidents.issues`, keep an issue for each open one.

    python -m ci.actions prod

Ends with 0, or with 1 when a message or an issue could not be written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ci.comment import marker
from ci.forge import Forge, ForgeError, find_forge
from settings import parse, read_stack_file

LABEL = "post-mortem"


def keep_issues(forge: Forge, stack: str, actions: Sequence[dict[str, Any]]) -> None:
    """An open issue for each open action, and none for one that is done."""
    for one in actions:
        name = f"{one['incident']} action {one['number']}"
        first = marker(f"action of {stack}: {name}")
        if one["done"]:
            forge.close_issue(first, f"Done: {one['done']}.", label=LABEL)
        else:
            forge.put_issue(first, f"{one['what']} ({name})", _write(stack, first, one), label=LABEL)


def _write(stack: str, first: str, one: dict[str, Any]) -> str:
    number, incident = one["number"], one["incident"]
    return "\n\n".join(
        [
            first,
            f"{one['what']}",
            f"Owner: {one['owner'] or 'unknown'}. Due {one['due']}{' (overdue)' if one['overdue'] else ''}.",
            f"Of the post-mortem of `{incident}` on `{stack}`: `runbook incident show -i {incident} --post-mortem`. "
            f"When it is done, `runbook incident action-done {number} -i {incident} --stack {stack}`; this issue is "
            "closed by the next run.",
        ]
    )


def _runbook(folder: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(["runbook", *words], check=False, cwd=folder, stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.actions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", help="the stack of the incidents")
    parser.add_argument("--folder", type=Path, default=Path(), help="the project's folder (default: this one)")
    given = parser.parse_args(arguments)
    sent, printed = _runbook(given.folder, "incident", "remind", "--stack", given.stack)
    print(printed, end="")
    settings = parse(read_stack_file(given.folder / f"Pulumi.{given.stack}.yaml"))
    forge = find_forge()
    if forge is None or not settings.incidents.issues:
        return sent
    code, printed = _runbook(given.folder, "incident", "actions", "--all", "--json", "--stack", given.stack)
    if code not in (0, 1):  # 1: an action is overdue
        return code
    try:
        keep_issues(forge, given.stack, json.loads(printed))
    except ForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return sent


if __name__ == "__main__":
    sys.exit(main())
