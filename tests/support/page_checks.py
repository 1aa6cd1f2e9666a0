"""A stack whose pages are measured by schedule, and results as they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.program import RELEASE, stack_config

IMAGE = "registry.example.com/lighthouse@sha256:" + "c" * 64
LIMITS: Mapping[str, float] = {"score": 90, "lcp": 2000, "tbt": 100, "cls": 0.1, "bundleKb": 200}
GOOD = {"score": 95.0, "lcp": 1500.0, "tbt": 50.0, "cls": 0.01, "bundleKb": 120.0}
NOW = datetime.now(UTC)


def config(*, continuous: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The sandbox with one release whose pages are measured."""
    performance = {"image": IMAGE, "continuous": continuous or {}}
    return stack_config("Pulumi.sandbox.yaml", **{"release": RELEASE, "performance": performance, **changes})


def page(path: str = "/shop", result: str = "kept", **values: float) -> dict[str, Any]:
    """The result of one page."""
    if result == "not measured":
        return {"path": path, "result": result, "why": "no answer"}
    measured = {**GOOD, **values}
    over = [name for name in LIMITS if (measured[name] < 90 if name == "score" else measured[name] > LIMITS[name])]
    return {
        "path": path,
        "result": result,
        "values": measured,
        "limits": dict(LIMITS),
        "over": over,
        "worst": "Largest Contentful Paint",
        "benchmark": 1500.0 if result != "busy" else 400.0,
    }


def check(minutes: float, *pages: dict[str, Any], revision: int = 7) -> dict[str, Any]:
    """The result of so many minutes ago."""
    release = {"revision": str(revision), "git": f"abc{revision}", "image": RELEASE["image"]}
    return {"at": (NOW - timedelta(minutes=minutes)).isoformat(), "release": release, "pages": list(pages)}
