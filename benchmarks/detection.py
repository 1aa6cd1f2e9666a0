"""A release that turns bad: how long until somebody decides, and until customers are served again.

Beside ours stands the loop that Flagger documents: every `interval` the share of good answers of the last minute is
asked of the same Prometheus, and `threshold` failed checks end the release. Flagger itself is not in any package
index. In its favour, going back is counted as nothing: its primary pods still run.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.timing import Series
from sandbox.paths import STATE
from sandbox.traffic import Traffic
from tests.cluster.automatic import Watched, over, refresh, watched_stack
from tests.cluster.monitored import Observed, eventually

_RUNBOOK: Mapping[str, Any] = {}
_SHORT: Mapping[str, Any] = {"errorRateSeconds": 5, "rateSeconds": 20}
_SHORTER: Mapping[str, Any] = {"errorRateSeconds": 30}
_LOOPS = {"Flagger's loop, 60 s x 5": (60, 5), "Flagger's loop, 10 s x 10": (10, 10)}
"""As its tutorials have it: the default interval, and the shortest one it takes."""
_GOOD_PERCENT = 99
_GOOD_SHARE = (
    '100 * sum(rate(http_request_duration_seconds_count{status!~"5.*"}[1m]))'
    " / sum(rate(http_request_duration_seconds_count[1m]))"
)

Taken = tuple[float, float]
"""Seconds from the first failed answer to the decision, and to the last failed answer."""


def measure(runs: int) -> dict[str, Any]:
    images = json.loads((STATE / "images.json").read_text())
    with tempfile.TemporaryDirectory() as folder, watched_stack("detection", images, Path(folder)) as watched:
        contenders: dict[str, Callable[[], Taken]] = {
            "ours, the runbook's 120 s": lambda: _ours(watched, images, _RUNBOOK),
            "ours, 30 s": lambda: _ours(watched, images, _SHORTER),
            **{name: lambda loop=loop: _loop(watched, images, *loop) for name, loop in _LOOPS.items()},
        }
        decided, served = ({name: Series() for name in contenders} for _ in range(2))
        for _ in range(runs):
            for name, act in contenders.items():
                detection, total = act()
                decided[name].seconds.append(detection)
                served[name].seconds.append(total)
                print(f"  {name}: decided after {detection:.1f} s, served after {total:.1f} s", flush=True)
    return {
        "rollback_vs_flagger_loop": {
            "what": "a release whose pods answer errors after their 300th request, under steady traffic: from the "
            "first failed answer to the decision, and to the last failed answer",
            "decision_seconds": {name: series.to_json() for name, series in decided.items()},
            "served_seconds": {name: series.to_json() for name, series in served.items()},
            "ratios": {
                f"{ours}/{loop}, {what}": round(taken[ours].median / taken[loop].median, 2)
                for what, taken in (("decision", decided), ("served", served))
                for ours in contenders
                if ours not in _LOOPS
                for loop in _LOOPS
            },
        }
    }


def _release(watched: Watched, images: Mapping[str, str], triggers: Mapping[str, Any], *, dry: bool = False) -> None:
    def change(config: dict[str, Any]) -> None:
        config["runbook:monitoring"]["triggers"] = dict(triggers)
        config["runbook:monitoring"]["rollback"]["dryRun"] = dry

    stack = watched.stack
    refresh(stack)
    stack.edit(change)
    stack.runbook("deploy", images["shop:v8-late-errors"], "--yes", "--allow-quarantined", "benchmark").check()
    eventually(lambda: over(stack), 120)


def _ours(watched: Watched, images: Mapping[str, str], triggers: Mapping[str, Any]) -> Taken:
    _release(watched, images, triggers)
    began = time.time()
    with Traffic(watched.stack.url) as traffic:
        watched.told.wait("/critical", ":rewind:", since=began, seconds=400)
    revision = watched.stack.history()[0]["rollbackOf"]
    (record,) = [one for one in watched.incidents() if one.get("leaving") == revision]
    first, last = _failures(traffic)
    return datetime.fromisoformat(record["openedAt"]).timestamp() - first, last - first


def _loop(watched: Watched, images: Mapping[str, str], interval: int, threshold: int) -> Taken:
    _release(watched, images, _SHORT, dry=True)
    observed = Observed(watched.stack)
    failed = 0
    with Traffic(watched.stack.url) as traffic:
        while failed < threshold:
            time.sleep(interval)  # the loop under measurement
            failed += (observed.number(_GOOD_SHARE) or 0) < _GOOD_PERCENT
        decided = time.time()
    watched.stack.runbook("rollback", "--yes").check()
    first, _ = _failures(traffic)
    return decided - first, decided - first


def _failures(traffic: Traffic) -> tuple[float, float]:
    """When the first and the last failed request were sent, in seconds since 1970."""
    offset = time.time() - time.monotonic()
    failed = [answer.at + offset for answer in traffic.failures]
    return min(failed), max(failed)
