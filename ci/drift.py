"""Compare cluster, state and program of a stack, read-only; open one issue while they differ, and close it afterwards.

    python -m ci.drift prod

Ends with 0 when they agree, 1 when they differ or a comparison failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ci.comment import marker, render_drift, summarize
from ci.engine_run import preview, preview_refresh
from ci.forge import ForgeError, find_forge


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", help="the stack to compare")
    parser.add_argument("--folder", type=Path, default=Path(), help="the project's folder (default: this one)")
    arguments = parser.parse_args()
    stack = arguments.stack
    cluster, program = preview_refresh(stack, arguments.folder), preview(stack, arguments.folder)
    agrees = all(run.succeeded and not run.changes for run in (cluster, program))
    try:
        if forge := find_forge():
            if agrees:
                reason = f"Cluster, state and program of `{stack}` agree again: {forge.details}"
                forge.close_issue(marker(f"drift of {stack}"), reason)
            else:
                body = render_drift(stack, cluster, program, limit=forge.limit, details=forge.details)
                forge.put_issue(marker(f"drift of {stack}"), f"Drift of {stack}", body)
    except ForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Cluster against state: {summarize(cluster)}. State against program: {summarize(program)}.")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
