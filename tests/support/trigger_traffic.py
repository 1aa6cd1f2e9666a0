"""How soon an alert notices the errors of a release, on the random traffic of many shops, judged by promtool itself.

Each shop is a release of its own with two pods. Customers come at random (a Poisson process), to three routes, and each
answer is an error at random. Counters appear with their first request, as those of the client libraries do.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, sqrt
from pathlib import Path
from typing import Any

from monitoring.alerts.promtool_cases import steady
from monitoring.alerts.requests import COUNT
from monitoring.alerts.rule import Domain

PODS = 2
ROUTES: Mapping[str, float] = {"/shop": 0.6, "/api/cart": 0.3, "/api/orders": 0.1}
"""Routes, and the part of the requests that go there."""
_ALERTS = 'ALERTS{{alertname="{}",alertstate="firing"}}'


@dataclass(frozen=True, kw_only=True)
class Shops:
    """Shops of one kind."""

    requests_per_second: float
    error_percent: float
    count: int
    seconds: int
    seed: int = 1

    def series(self, step: int) -> dict[str, str]:
        """Their metrics, a value every `step` seconds; the second 0 has none of the requests."""
        chance = random.Random(f"{self.seed}/{self.requests_per_second}/{self.error_percent}")  # noqa: S311 (traffic)
        found: dict[str, str] = {"pg_up": steady(1), "redis_up": steady(1)}
        steps = self.seconds // step
        for shop in range(self.count):
            for pod in range(PODS):
                target = f'job="backend",instance="{shop}-{pod}"'
                found[f"up{{{target}}}"] = steady(1)
                found[f"process_start_time_seconds{{{target}}}"] = steady(0)
                for route, part in ROUTES.items():
                    mean = self.requests_per_second * step * part / PODS
                    for status, share in (("500", self.error_percent / 100), ("200", 1 - self.error_percent / 100)):
                        labels = f'{target},route="{route}",status="{status}",release="{shop}",git="git"'
                        counts = accumulate(_poisson(chance, mean * share) for _ in range(steps))
                        found[f"{COUNT}{{{labels}}}"] = _born(counts)
        return found


def _poisson(chance: random.Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(chance.gauss(mean, sqrt(mean))))
    # Multiplied by its logarithm, the product of uniform numbers is the time of an arrival.
    limit, count, product = exp(-mean), 0, chance.random()
    while product > limit:
        count += 1
        product *= chance.random()
    return count


def _born(counts: Any) -> str:
    """The values of a counter, from its first request on."""
    values = ["_", *(str(count) if count else "_" for count in counts)]
    return " ".join(values)


def noticed(domain: Domain, alert: str, shops: Shops, moments: Sequence[int]) -> dict[int, int]:
    """In how many shops the alert has fired by each of these seconds."""
    step = domain.every
    rules = [{"record": one.record, "expr": one.expr} for one in domain.recordings]
    rules += [one.to_prometheus() for one in domain.alerts if one.name == alert]
    firing = _ALERTS.format(alert)
    tests = [
        {"expr": f"count(count by (release) (count_over_time({firing}[{moment}s])))", "eval_time": f"{moment}s"}
        for moment in moments
    ]
    file = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{step}s",
        "tests": [
            {
                "interval": f"{step}s",
                "input_series": [
                    {"series": name if "{" in name else f"{name}{{}}", "values": values}
                    for name, values in shops.series(step).items()
                ],
                "promql_expr_test": [{**test, "exp_samples": [{"labels": "", "value": -1}]} for test in tests],
            }
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "rules.yaml").write_text(json.dumps({"groups": [{"name": "one", "rules": rules}]}))
        (place / "test.yaml").write_text(json.dumps(file))
        done = subprocess.run(
            ["promtool", "test", "rules", place / "test.yaml"], capture_output=True, text=True, check=False
        )
    return _read(done.stdout + done.stderr, moments)


def _read(output: str, moments: Sequence[int]) -> dict[int, int]:
    """Nothing is as expected, so that promtool prints each number."""
    found = re.findall(r"time: (\S+),\s+exp:.*\s+got:\s*(?:(nil)|.*?\{\}\s+([\d.E+]+))", output)
    if len(found) != len(moments):
        raise AssertionError(output[-3000:])
    return {moment: 0 if nil else round(float(number)) for moment, (_, nil, number) in zip(moments, found, strict=True)}
