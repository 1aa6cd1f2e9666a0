"""What a command of several updates notices between two of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.decisions.standing import describe_change
from ops.stack.history import Entry

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
RUNS = {"runbook:release": {"revision": 7, "image": "r/shop@sha256:7"}, "runbook:namespace": "shop"}


def entry(config: dict[str, Any], *, message: str = "revision 6: rollback by controller", minutes: int = 5) -> Entry:
    at = AT + timedelta(minutes=minutes)
    return Entry("update", "succeeded", at, at, message, {}, config, {})


JUDGED = entry(RUNS, message="rotate JWT_SECRET to dual by alice", minutes=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runbook:release": {"revision": 6, "image": "r/shop@sha256:6"}}, "revision 6 runs instead of revision 7"),
        ({"runbook:release": {"revision": 7, "image": "r/shop@sha256:8"}}, "revision 7 runs instead of revision 7"),
        ({"runbook:quarantine": [{"digest": "sha256:7"}]}, "the quarantine lists 1 digests, not 0"),
        ({"runbook:lockdown": {"since": "x"}}, "the stack was locked down"),
        ({"runbook:maintenance": {"since": "x"}}, "maintenance began"),
        ({"runbook:rotated": {"REDIS_URL": {"period": 1}}}, "REDIS_URL was rotated"),
        ({"runbook:application": {"services": []}}, "runbook:application was changed"),
        ({"runbook:release": None}, "no release runs instead of revision 7"),
    ],
)
def test_a_change_is_described_with_who_made_it(change: dict[str, Any], says: str) -> None:
    said = describe_change(JUDGED, entry({**RUNS, **change}))
    assert said
    assert says in said
    assert "rollback by controller" in said


def test_what_ended_is_a_change_too() -> None:
    locked = entry({**RUNS, "runbook:lockdown": {"since": "x"}, "runbook:maintenance": {"since": "x"}}, minutes=0)
    said = describe_change(locked, entry(RUNS))
    assert said
    assert "the lockdown was ended; maintenance ended" in said


def test_an_update_that_changed_nothing_is_no_change() -> None:
    assert describe_change(JUDGED, JUDGED) is None
    assert describe_change(JUDGED, entry({**RUNS, "kubernetes:context": "prod"})) is None, "a setting of one machine"
    assert describe_change(None, None) is None
    assert describe_change(None, entry(RUNS)) is not None
