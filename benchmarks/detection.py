"""A release that fails under customers' requests, rolled back by this program, Flagger and Argo Rollouts.

Each with the settings of its documentation, and with the fastest ones under which no single look at the metrics takes a
release back.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import argo_rollouts, flagger
from benchmarks.peers import Outcome, ground, outcome
from benchmarks.timing import Series
from sandbox.paths import STATE
from sandbox.traffic import Traffic
from tests.support.controlled_stack import ControlledStack, over, refresh, watched_stack
from tests.support.monitored_stack import eventually

GOOD, BAD = "shop:v2", "shop:v8-late-errors"
OURS: Mapping[str, Mapping[str, Any]] = {"ours, 120 s": {}, "ours, 10 s": {"errorRateSeconds": 10}}
"""`monitoring.triggers`: the runbook's, and durations as long as two checks of the others."""
_PEERS: Mapping[str, ModuleType] = {"bad_release_vs_flagger": flagger, "bad_release_vs_argo_rollouts": argo_rollouts}
_WHAT = (
    "a release whose pods answer errors after their 300th request, under steady traffic: from the first failed request "
    "to the decision, to the last failed request, and how many requests failed"
)
_NOTES = (
    "Failed requests: ours gives a release all of the traffic at once, after a rehearsal without any; the peers give "
    "it a fifth or less at first, so fewer requests per second fail. A first step with a share of the traffic would "
    "change that.",
    "From decision to served: the peers' old pods still run, ours are started again. Keeping the old pods for the "
    "release window would change that, at twice the memory.",
    "The peers watch a release only until it has all of the traffic, and do not take back one that turns bad later. "
    "Ours watches for `rollback.releaseWindowSeconds`, an hour by default.",
    "The peers take back the pods' template alone, without a check of the database's schema.",
)


def measure(runs: int) -> dict[str, Any]:
    images = json.loads((STATE / "images.json").read_text())
    registry = images["tasks"].partition("/")[0]
    taken: dict[str, list[Outcome]] = {}

    def once(name: str, act: Callable[[], Outcome]) -> None:
        found = act()
        taken.setdefault(name, []).append(found)
        times = f"decided after {found.decided:.1f} s, served after {found.served:.1f} s"
        print(f"  {name}: {times}, {found.failed} of {found.asked} requests failed", flush=True)

    with tempfile.TemporaryDirectory() as folder, watched_stack("detection", images, Path(folder)) as watched:
        for _ in range(runs):
            for name, triggers in OURS.items():
                once(name, lambda triggers=triggers: _ours(watched, images, triggers))
        with ground(watched.stack, images["monitoring"], registry) as place:
            for peer in _PEERS.values():
                with peer.installed(place):
                    for _ in range(runs):
                        for name, analysis in peer.CONTENDERS.items():
                            act = lambda peer=peer, how=analysis: peer.measure(place, images[GOOD], images[BAD], how)  # noqa: E731
                            once(name, act)
    return {title: result(taken, list(peer.CONTENDERS)) for title, peer in _PEERS.items()}


def _ours(watched: ControlledStack, images: Mapping[str, str], triggers: Mapping[str, Any]) -> Outcome:
    def change(config: dict[str, Any]) -> None:
        config["runbook:monitoring"]["triggers"] = dict(triggers)

    stack = watched.stack
    refresh(stack)
    stack.edit(change)
    stack.runbook("deploy", images[BAD], "--yes", "--allow-quarantined", "benchmark").check()
    eventually(lambda: over(stack), 120)
    began = time.time()
    with Traffic(stack.url, pause_seconds=0.03) as traffic:
        watched.receiver.wait("/critical", ":rewind:", since=began, seconds=400)
    revision = stack.history()[0]["rollbackOf"]
    (record,) = [one for one in watched.incidents() if one.get("leaving") == revision]
    return outcome(traffic, datetime.fromisoformat(record["openedAt"]).timestamp())


def result(taken: Mapping[str, Sequence[Outcome]], theirs: Sequence[str]) -> dict[str, Any]:
    kept = {name: taken[name] for name in (*OURS, *theirs)}
    decided = {name: Series([one.decided for one in found]) for name, found in kept.items()}
    served = {name: Series([one.served for one in found]) for name, found in kept.items()}
    failed = {name: statistics.median(one.failed for one in found) for name, found in kept.items()}
    return {
        "what": _WHAT,
        "decision_seconds": {name: series.to_json() for name, series in decided.items()},
        "served_seconds": {name: series.to_json() for name, series in served.items()},
        "requests": {
            name: {"median_failed": failed[name], "runs": [{"failed": one.failed, "asked": one.asked} for one in found]}
            for name, found in kept.items()
        },
        "ratios": {
            f"{ours}/{peer}, {what}": round(of[ours] / of[peer], 2)
            for what, of in (
                ("decision", {name: series.median for name, series in decided.items()}),
                ("served", {name: series.median for name, series in served.items()}),
                ("failed requests", failed),
            )
            for ours, peer in zip(OURS, theirs, strict=True)
        },
        "notes": list(_NOTES),
    }
