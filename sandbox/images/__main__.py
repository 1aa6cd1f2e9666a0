"""`python -m sandbox.images [REGISTRY]`: build and push everything, print name → reference as JSON."""

from __future__ import annotations

import json
import sys

from sandbox import toolchain, ui
from sandbox.images import build_all

DEFAULT_REGISTRY = "localhost:15000"


def main() -> int:
    registry = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_REGISTRY
    try:
        print(json.dumps(build_all(lambda: registry, toolchain.ensure), indent=2))
    except ui.SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
