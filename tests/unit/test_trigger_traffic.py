"""The error-rate trigger on the random traffic of shops: it notices bad releases at night too, and blames no other."""

from __future__ import annotations

import pytest

from monitoring.alerts.release import triggers
from settings import Monitoring
from tests.support.trigger_traffic import Shops, noticed

DOMAIN = triggers(Monitoring(), ["backend"])
NAME = "RollbackErrorRate"


@pytest.mark.parametrize(
    ("rate", "percent", "seconds", "least"),
    [(0.3, 10, 600, 19), (0.3, 50, 180, 19), (1, 10, 240, 19), (1, 50, 60, 19)],
)
def test_a_bad_release_is_noticed_on_little_traffic(rate: float, percent: float, seconds: int, least: int) -> None:
    shops = Shops(requests_per_second=rate, error_percent=percent, count=20, seconds=seconds)
    assert noticed(DOMAIN, NAME, shops, [seconds])[seconds] >= least


@pytest.mark.parametrize("rate", [0.3, 1])
def test_a_release_with_few_errors_is_not_blamed_in_an_hour(rate: float) -> None:
    shops = Shops(requests_per_second=rate, error_percent=1, count=10, seconds=3600)
    assert noticed(DOMAIN, NAME, shops, [3600]) == {3600: 0}
