"""What a run of the tests has no time for."""

from __future__ import annotations

import time

import pytest

from tests.support.ordering import UNTIL, skip_without_time


def test_no_test_begins_when_the_time_of_a_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UNTIL, raising=False)
    skip_without_time("a")
    monkeypatch.setenv(UNTIL, str(time.time() + 60))
    skip_without_time("a")
    monkeypatch.setenv(UNTIL, str(time.time() - 1))
    with pytest.raises(pytest.skip.Exception, match="a: the time of this run is over"):
        skip_without_time("a")
