#!/usr/bin/env python
"""What the language host starts: the engine's own script, which runs the program.

When a resource fails, the engine interrupts the program. This host's script lets Python
answer that with a traceback of the event loop; the failure has been reported by then, so
the program just ends.
"""

import runpy
import sys
from pathlib import Path

ALREADY_EXPLAINED = 32
"""The exit code by which the host knows that nothing more needs to be said."""

if __name__ == "__main__":
    try:
        runpy.run_path(str(Path(__file__).with_name("pulumi-language-python-program")), run_name="__main__")
    except KeyboardInterrupt:
        sys.exit(ALREADY_EXPLAINED)
