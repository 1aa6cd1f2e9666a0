"""The identities of a stack's resources, as recorded: `python -m tests.support.recorded_urns` records them anew.

The engine knows a resource by its URN only. Under another one it is deleted and made again: a volume with its data, a
password, a Service under traffic.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.program import RELEASE, committed, run_program

STACKS = ("sandbox", "staging", "prod")
_FOLDER = Path(__file__).parent / "urns"
_HASH = re.compile(r"-[0-9a-f]{10}(?![0-9a-z])")
"""Part of the name of objects that are replaced with their content, on purpose."""


def read_urns(stack: str) -> list[str]:
    """What is recorded of a committed stack file with a release."""
    return _file(stack).read_text().splitlines()


def list_urns(stack: str) -> list[str]:
    """What the program registers for it now."""
    program = run_program(committed(f"Pulumi.{stack}.yaml", release=RELEASE))
    return sorted({_HASH.sub("-…", resource.urn.split("::", 2)[2]) for resource in program.resources})


def _file(stack: str) -> Path:
    return _FOLDER / f"{stack}.txt"


if __name__ == "__main__":
    _FOLDER.mkdir(exist_ok=True)
    for each in STACKS:
        _file(each).write_text("\n".join(list_urns(each)) + "\n")
