"""What this release is: its version, and on purpose what is wrong with it."""

import json
from pathlib import Path

RELEASE = json.loads((Path(__file__).parent / "release.json").read_text())
