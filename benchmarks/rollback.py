"""All that an operator runs: `runbook deploy` and `runbook rollback` of the real shop, gates and checks included."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import in_turn
from sandbox.paths import STATE
from tests.support.cluster_stack import Stack


def measure(runs: int) -> dict[str, Any]:
    images = json.loads((STATE / "images.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.create("bench", Path(folder), backups=False)
        healthy: list[float] = []

        def deploy(_turn: int) -> None:
            stack.runbook("deploy", images["shop:v2"], "--yes", "--allow-quarantined", "benchmark").check()

        def rollback(_turn: int) -> None:
            done = stack.runbook("rollback", "--yes", "--json").check().json()
            healthy.append(done["seconds"])

        try:
            stack.runbook("deploy", images["shop:v1"], "--yes").check()
            taken = in_turn({"runbook deploy": deploy, "runbook rollback": rollback}, runs)
        finally:
            stack.remove()
    return {
        "operator": {
            "what": "the sample shop, v1 to v2 and back: migration, rehearsal, rollout, cache and smoke Jobs, "
            "schema gate and verification included; wall time of the whole command",
            "seconds": {name: series.to_json() for name, series in taken.items()},
            "trigger_to_healthy_seconds": [round(value, 1) for value in healthy[1:]],
        }
    }
