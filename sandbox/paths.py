"""Where the sandbox keeps things."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

STATE = Path(os.environ.get("RUNBOOK_SANDBOX_STATE") or ROOT / ".sandbox").absolute()
"""Everything one running sandbox owns: cluster data, logs, stack file, `env`. Removed by `down`.

Another folder here is another sandbox: its own node, data and ports.
"""

CACHE = Path(
    os.environ.get("RUNBOOK_SANDBOX_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runbook-sandbox"
)
"""Build results, keyed by the content that made them; shared by every checkout on the machine."""

LOGS = STATE / "logs"
ENV_FILE = STATE / "env"
