"""What several runs on one page say: medians, limits that are exceeded, and the audit that costs most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

_METRICS = {
    "lcp": "largest-contentful-paint",
    "tbt": "total-blocking-time",
    "cls": "cumulative-layout-shift",
}
"""Metric → its audit. FID and its successor INP need a person who clicks; Total Blocking Time is what Lighthouse
measures in their place, because both count how long the main thread does not answer."""
_BUNDLE = ("Script", "Stylesheet")
UNITS = {"score": "", "lcp": " ms", "tbt": " ms", "cls": "", "bundleKb": " KB"}
TITLES = {
    "score": "Performance score",
    "lcp": "Largest Contentful Paint",
    "tbt": "Total Blocking Time",
    "cls": "Cumulative Layout Shift",
    "bundleKb": "Scripts and styles transferred",
}


@dataclass(frozen=True)
class Verdict:
    """One page."""

    values: Mapping[str, float]
    """Medians of the runs: score (0 to 100), lcp and tbt (ms), cls, bundleKb (1 KB = 1024 bytes)."""
    exceeded: Sequence[str]
    """Each limit that is not kept, as text."""
    over: Sequence[str]
    """The same as names of metrics."""
    worst: str
    """The metric that costs most of the score, and what would help it most."""
    worst_audit: str
    """The same without the number, which differs from run to run."""
    benchmark: float
    """Lighthouse's index of this machine's speed, the median."""
    believed: bool
    """Whether the machine was fast enough for a failure to be the page's."""
    chosen: int
    """Which run's report is kept: the one with the median score."""


def judge_page(reports: Sequence[Mapping[str, Any]], limits: Mapping[str, float], least_benchmark: float) -> Verdict:
    """`limits`: score is the least, all others are the most. A number that is missing is no limit."""
    found = [_measure(report) for report in reports]
    values = {name: median(run[name] for run in found) for name in found[0]}
    order = sorted(range(len(found)), key=lambda index: found[index]["score"])
    chosen = order[(len(order) - 1) // 2]
    over = [
        name for name, limit in limits.items() if (values[name] < limit if name == "score" else values[name] > limit)
    ]
    exceeded = [
        f"{TITLES[name]} {show(name, values[name])}, "
        f"{'at least' if name == 'score' else 'at most'} {show(name, limits[name])}"
        for name in over
    ]
    title, value, helps = _find_worst(reports[chosen])
    benchmark = median(float(report["environment"]["benchmarkIndex"]) for report in reports)
    return Verdict(
        values=values,
        exceeded=exceeded,
        over=over,
        worst=f"{title} {value}".strip() + helps,
        worst_audit=title + helps,
        benchmark=benchmark,
        believed=benchmark >= least_benchmark,
        chosen=chosen,
    )


def show(name: str, value: float) -> str:
    """A value with its unit."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + UNITS[name] if name == "cls" else f"{value:.0f}{UNITS[name]}"


def _measure(report: Mapping[str, Any]) -> dict[str, float]:
    audits = report["audits"]
    requests = audits["network-requests"]["details"]["items"]
    score = report["categories"]["performance"]["score"]
    return {
        # Without a score a metric could not be computed: the page painted nothing.
        "score": 100 * float(score or 0),
        **{name: float(audits[audit].get("numericValue") or 0) for name, audit in _METRICS.items()},
        "bundleKb": sum(item["transferSize"] for item in requests if item.get("resourceType") in _BUNDLE) / 1024,
    }


def _find_worst(report: Mapping[str, Any]) -> tuple[str, str, str]:
    """The metric, its value, and what would help it most."""
    audits = report["audits"]
    weights = {item["id"]: item["weight"] for item in report["categories"]["performance"]["auditRefs"]}
    metric = max(weights, key=lambda name: weights[name] * (1 - (audits[name].get("score") or 0)))
    shown = audits[metric]
    savings = {
        name: sum((audit.get("metricSavings") or {}).values())
        for name, audit in audits.items()
        if not weights.get(name) and (audit.get("score") is None or audit["score"] < 1)
    }
    value = shown.get("displayValue", "").replace("\u00a0", " ").strip()
    helps = max(savings, key=lambda name: savings[name], default=None)
    return shown["title"], value, f"; most to gain: {audits[helps]['title']}" if helps and savings[helps] else ""
