"""Preview a stack; on GitHub and GitLab, keep one comment per stack on the pull request up to date.

    python -m ci.preview staging
    python -m ci.preview prod --folder infrastructure

Ends with 0 when the preview succeeded, 1 when it failed or its comment could not be written.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ci.comment import marker, render_preview
from ci.engine_run import preview
from ci.forge import ForgeError, find_forge


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.preview", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", help="the stack to preview")
    parser.add_argument("--folder", type=Path, default=Path(), help="the project's folder (default: this one)")
    arguments = parser.parse_args()
    try:
        forge = find_forge()
        run = preview(arguments.stack, arguments.folder)
        limit, details = (forge.limit, forge.details) if forge else (1_000_000, "")
        body = render_preview(arguments.stack, run, limit=limit, details=details)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(f"{body}\n")
        if forge:
            forge.put_comment(marker(f"preview of {arguments.stack}"), body)
    except ForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if run.errors:
        print(f"error: the preview of {arguments.stack} failed:\n{run.errors}", file=sys.stderr)
    return 0 if run.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
