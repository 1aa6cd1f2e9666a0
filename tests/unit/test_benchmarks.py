"""Results that benchmarks compute from their measurements."""

from __future__ import annotations

import time

import pytest

from benchmarks.detection import OURS, result
from benchmarks.peers import Outcome, outcome
from sandbox.traffic import Answer, Traffic


def test_failures_are_counted_between_the_first_and_the_last_one() -> None:
    statuses = [200, 200, 500, 200, "ReadTimeout: ", 200, 502, 200, 200]
    traffic = Traffic("http://shop.localhost")
    traffic.answers = [Answer(100.0 + place, "/shop", status) for place, status in enumerate(statuses)]
    wall = time.time() - time.monotonic()
    found = outcome(traffic, wall + 103.5)
    assert (found.served, found.failed, found.asked) == (4.0, 3, 5)
    assert found.decided == pytest.approx(1.5, abs=0.1)


def test_a_release_that_never_failed_is_no_result() -> None:
    traffic = Traffic("http://shop.localhost")
    traffic.answers = [Answer(100.0, "/shop", 200)]
    with pytest.raises(SystemExit, match="no request failed"):
        outcome(traffic, 0)


def test_ratios_set_documented_beside_documented_and_fastest_beside_fastest() -> None:
    slow, fast = OURS
    taken = {
        slow: [Outcome(130, 140, 1000, 2000)],
        fast: [Outcome(20, 30, 400, 800)],
        "theirs": [Outcome(260, 280, 500, 4000)],
        "theirs, fast": [Outcome(40, 40, 100, 900)],
    }
    ratios = result(taken, ["theirs", "theirs, fast"])["ratios"]
    assert ratios == {
        f"{slow}/theirs, decision": 0.5,
        f"{fast}/theirs, fast, decision": 0.5,
        f"{slow}/theirs, served": 0.5,
        f"{fast}/theirs, fast, served": 0.75,
        f"{slow}/theirs, failed requests": 2.0,
        f"{fast}/theirs, fast, failed requests": 4.0,
    }
