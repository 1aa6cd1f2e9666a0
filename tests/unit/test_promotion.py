"""What may be promoted: only what a stack has really served, long enough, and serves still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.decisions.promotion import compare_stacks, find_candidate, refuse_quarantined
from ops.errors import Refused
from ops.stack.history import Entry
from settings import Quarantined, Release

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LEAST = timedelta(minutes=30)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def release(revision: int, image: int = 1) -> dict[str, Any]:
    schema = {"min": 1, "max": 1, "level": 1}
    return {"revision": revision, "image": f"r/shop@{digest(image)}", "git": "1a2b", "schema": schema}


def update(minutes_ago: int, revision: int, image: int = 1, result: str = "succeeded", config: Any = None) -> Entry:
    ended = NOW - timedelta(minutes=minutes_ago)
    written = {"runbook:release": release(revision, image), **(config or {})}
    return Entry("update", result, ended - timedelta(minutes=1), ended, f"revision {revision}: x", {}, written, {})


def candidate(*updates: Entry, config: dict[str, Any] | None = None) -> Any:
    written = config or {"runbook:release": updates[0].config["runbook:release"] if updates else None}
    return find_candidate("staging", written, updates, LEAST, NOW)


def test_what_served_long_enough_is_a_candidate() -> None:
    found = candidate(update(31, 2), update(500, 1, image=9))
    assert (found.release.revision, found.served) == (2, timedelta(minutes=31))


def test_later_updates_of_the_same_image_do_not_start_the_time_again() -> None:
    rotated = {"runbook:rotated": {"JWT_SECRET": {}}}
    assert candidate(update(2, 2, config=rotated), update(20, 2), update(40, 2)).served == timedelta(minutes=40)


@pytest.mark.parametrize(
    ("updates", "why"),
    [
        ([], "never deployed"),
        ([update(29, 2)], r"serves revision 2 for 29 min.*try again in"),
        ([update(5, 2, result="failed"), update(90, 1)], "last update of staging failed"),
        # Back after another image: the time counts from then.
        ([update(3, 3, image=1), update(10, 2, image=2), update(90, 1, image=1)], "for 3 min"),
        # A failure in between, too.
        ([update(3, 2), update(10, 2, result="failed"), update(90, 2)], "for 3 min"),
        ([update(60, 2, config={"runbook:maintenance": {"reason": "x"}})], "in maintenance mode"),
        ([update(60, 2, config={"runbook:lockdown": {"reason": "x"}})], "locked down"),
        (
            [update(60, 2, config={"runbook:quarantine": [{"digest": digest(1), "revision": 2, "reason": "slow"}]})],
            "quarantined there since revision 2: slow",
        ),
    ],
)
def test_what_is_not_proven_is_refused(updates: list[Entry], why: str) -> None:
    config = dict(updates[0].config) if updates else {}
    with pytest.raises(Refused, match=why):
        candidate(*updates, config=config)


def test_a_release_that_is_only_written_is_not_finished() -> None:
    with pytest.raises(Refused, match="Revision 3 of staging is not finished"):
        candidate(update(60, 2), config={"runbook:release": release(3)})


def test_a_digest_that_the_target_refuses_is_refused() -> None:
    bad = Quarantined(digest=digest(1), revision=7, reason="lost orders")
    ours = Release.model_validate(release(2))
    with pytest.raises(Refused, match=r"prod has this image in quarantine since revision 7: lost orders.*lift"):
        refuse_quarantined("prod", ours, [bad])
    refuse_quarantined("prod", ours, [bad.model_copy(update={"digest": digest(2)})])


def test_the_stacks_are_compared_without_the_release_and_without_values_of_secrets() -> None:
    source = {
        "runbook:release": release(2),
        "secrets:A": {"secure": "v1:x"},
        "secrets:ONLY_STAGING": {"secure": "v1:y"},
        "runbook:application": {"services": [{"name": "backend", "replicas": 2}]},
    }
    target = {
        "runbook:release": release(9),
        "secrets:A": {"secure": "v1:z"},
        "runbook:application": {"services": [{"name": "backend", "replicas": 4}]},
    }
    assert compare_stacks(source, target) == [
        ("secrets:ONLY_STAGING", "set", None),
        ("application.services[backend].replicas", 2, 4),
    ]
