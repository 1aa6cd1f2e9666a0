"""`make bench`: run the benchmarks and write benchmarks/results/<name>.json.

All but `backups`, `history_bucket`, `triggers` and `real_traffic` need the sandbox: `make up`, `. ./.sandbox/env`.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from typing import Any

from benchmarks import backups, detection, history, history_bucket, previews, real_traffic, releases, rollback, triggers
from sandbox.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results"
ALL: dict[str, Callable[[int], dict[str, Any]]] = {
    "releases": releases.measure,
    "rollback": rollback.measure,
    "previews": previews.measure,
    "history": history.measure,
    "history_bucket": history_bucket.measure,
    "backups": backups.measure,
    "detection": detection.measure,
    "triggers": triggers.measure,
    "real_traffic": real_traffic.measure,
}
AN_HOUR = {"real_traffic"}
"""Measured only where they are named."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of: {', '.join(ALL)} (all but {', '.join(AN_HOUR)})")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each contender (5)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(ALL):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(ALL)}")
    RESULTS.mkdir(exist_ok=True)
    for name in arguments.names or [name for name in ALL if name not in AN_HOUR]:
        print(f"{name}:", flush=True)
        for title, result in ALL[name](arguments.runs).items():
            result["machine"] = {
                "system": platform.platform(),
                "processors": len(__import__("os").sched_getaffinity(0)),
            }
            (RESULTS / f"{title}.json").write_text(json.dumps(result, indent=2) + "\n")
            for pair, ratio in result.get("ratios", {}).items():
                print(f"{title}: {pair} = {ratio}")


if __name__ == "__main__":
    main()
