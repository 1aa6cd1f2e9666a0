"""How many releases the error-rate trigger notices on a shop's traffic, and how many it blames by chance.

promtool evaluates the rules on the random traffic of many shops, with fixed seeds. Beside it stands the rule that was
used before: a rate over 30 s that exceeds the limit at every evaluation for 120 s.
"""

from __future__ import annotations

from typing import Any

from monitoring.alerts.release import triggers
from monitoring.alerts.requests import COUNT, counted
from monitoring.alerts.rule import Alert, Domain
from settings import Monitoring
from tests.support.trigger_traffic import Shops, noticed

_NAME = "RollbackErrorRate"
_TEN_MINUTES, _HOUR = 600, 3600
_RATES = (0.2, 0.3, 1, 20)
_BUSY = 20
"""Shops, where each of them has many requests; else a hundred."""


def measure(runs: int) -> dict[str, Any]:
    """`runs` is how many times five hundredths of the shops: 5 are all of them."""
    monitoring = Monitoring()
    rules = {"window": triggers(monitoring, ["backend"]), "rate_for": _before(monitoring)}

    def shops(rate: float, errors: float, seconds: int) -> Shops:
        count = max(1, (_BUSY if rate >= _BUSY else 100) * runs // 5)
        return Shops(requests_per_second=rate, error_percent=errors, count=count, seconds=seconds)

    bad, good = [], []
    for rate in _RATES:
        for errors in (10, 50):
            some = shops(rate, errors, _TEN_MINUTES)
            found = {
                name: noticed(domain, _NAME, some, range(60, _TEN_MINUTES + 1, 60)) for name, domain in rules.items()
            }
            bad.append(
                {
                    "requests_per_second": rate,
                    "error_percent": errors,
                    "shops": some.count,
                    "noticed_by_second": found,
                    "half_noticed_by_seconds": {name: _half(seen, some.count) for name, seen in found.items()},
                }
            )
            print(f"  {rate:g} requests/s, {errors} % errors: {bad[-1]}", flush=True)
        some = shops(rate, 1, _HOUR)
        blamed = noticed(rules["window"], _NAME, some, [_HOUR])[_HOUR]
        good.append({"requests_per_second": rate, "error_percent": 1, "shops": some.count, "blamed_in_an_hour": blamed})
        print(f"  {rate:g} requests/s, 1 % errors: {good[-1]}", flush=True)
    return {
        "triggers_on_traffic": {
            "what": "shops in which RollbackErrorRate fires by each second after the release, and innocent shops in "
            "which it fires within an hour; promtool on random traffic, two pods, three routes, fixed seeds",
            "bad_releases": bad,
            "innocent_releases": good,
            "notes": ["rate_for: the rule before, rate[30s] above 5 % at every evaluation for 120 s."],
        }
    }


def _half(seen: dict[int, int], count: int) -> int | None:
    return next((second for second, shops in seen.items() if 2 * shops >= count), None)


def _before(monitoring: Monitoring) -> Domain:
    by = "sum by (release, git)"
    failed, all_ = counted(monitoring, 'status=~"5.."'), counted(monitoring)
    alert = Alert(
        name=_NAME,
        measure=f"100 * {by} (rate({COUNT}{failed}[30s])) / {by} (rate({COUNT}{all_}[30s])) > 5 "
        f"and {by} (increase({COUNT}{all_}[120s])) >= 10",
        lasting=120,
        severity="critical",
        summary="",
        about="errors",
        channel="critical",
        chapter="",
        missing="",
        advice="",
    )
    return Domain(name="before", title="", every=monitoring.evaluation_seconds, alerts=(alert,))
