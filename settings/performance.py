"""Pages measured by Lighthouse (HerbisVeritas "Checklist Pré-Déploiement", Phase 3; "Performance Budgets")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from settings.application import Resources, resources
from settings.backup import Cron, TimeZone
from settings.base import EXAMPLE_DIGEST, Finding, ImageRef, Seconds, Settings
from settings.cron import longest_gap_in, shortest_gap

PERFORMANCE = "runbook:performance"
LIGHTHOUSE = "lighthouse"
"""Job and container that measure a release, and the image."""
PAGE_CHECK = "page-check"
"""CronJob that measures the release that serves."""
METRICS = {
    "score": ("Performance score", ""),
    "lcp": ("Largest Contentful Paint", " ms"),
    "tbt": ("Total Blocking Time", " ms"),
    "cls": ("Cumulative Layout Shift", ""),
    "bundleKb": ("Scripts and styles transferred", " KB"),
}
"""Metric, as results name it → its title and unit. The task has the same (`tasks/lighthouse/judge.py`): there are no
settings in its image."""
_AROUND_SECONDS = 60
"""Seconds of a check besides measuring: placing its pod, and keeping the results."""


class PageBudget(Settings):
    """One page and its limits. A page of `/admin/*` is a route with `lcpMilliseconds: 3000`, `tbtMilliseconds: 150`,
    `cls: 0.15` and `bundleKilobytes: 300`; it has to be one that needs no login."""

    path: Annotated[str, Field(pattern=r"^/", examples=["/shop"])]
    """Path and query."""
    score: Annotated[int, Field(ge=0, le=100)] = 90
    """Least performance score of Lighthouse."""
    lcp_milliseconds: Annotated[int, Field(ge=1, le=60_000)] = 2000
    """Most Largest Contentful Paint, in milliseconds."""
    tbt_milliseconds: Annotated[int, Field(ge=0, le=60_000)] = 100
    """Most Total Blocking Time, in milliseconds. FID, in the runbook, and INP, which replaced it, need people who
    click; the laboratory measures how long the main thread could not have answered them. The runbook's number is kept:
    then no task is longer than 150 ms."""
    cls: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Most Cumulative Layout Shift."""
    bundle_kilobytes: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Most scripts and styles as transferred, in KB of 1024 bytes."""

    def to_limits(self) -> dict[str, float]:
        """As the task names them."""
        return {
            "score": self.score,
            "lcp": self.lcp_milliseconds,
            "tbt": self.tbt_milliseconds,
            "cls": self.cls,
            "bundleKb": self.bundle_kilobytes,
        }


class PageCheck(Settings):
    """The pages of the release that serves, measured again and again. Results are kept in the store of backups."""

    schedule: Cron = "*/10 * * * *"
    """When (cron)."""
    time_zone: TimeZone = "Etc/UTC"
    """Time zone of the schedule. One that puts its clock forward has an hour without checks then."""
    suspend: bool = False
    """Measure nothing by schedule, and report nothing as missed."""
    timeout_seconds: Annotated[int, Field(ge=2 * _AROUND_SECONDS, le=86_400)] = 540
    """Seconds until a check is ended. What is not measured a minute before is left to the next one."""
    days: Annotated[int, Field(ge=1, le=90)] = 14
    """Days that results are kept."""
    url: Annotated[str | None, Field(pattern=r"^https?://[^/]+$", examples=["https://shop.example.com"])] = None
    """URL whose pages are measured in place of the services inside the namespace, as customers get them through ingress
    and CDN. `network.egress` has to lead there, and its certificate has to be one that browsers trust."""

    @property
    def missed_seconds(self) -> int:
        """From which age of a page's last result on a check was missed."""
        return int(longest_gap_in(self.schedule, self.time_zone).total_seconds()) + self.timeout_seconds

    def _findings(self) -> list[Finding]:
        between = int(shortest_gap(self.schedule).total_seconds())
        if self.timeout_seconds <= between:
            return []
        why = f"a check may take {self.timeout_seconds} s, and the next begins after {between} s"
        return [Finding(("timeoutSeconds",), why, between)]


class Performance(Settings):
    """Every release is measured in its rehearsal, before it gets traffic: a page that misses a limit fails the
    update. The release is not quarantined, because a laboratory's numbers depend on the machine."""

    image: Annotated[ImageRef, Field(examples=[f"registry.example.com/lighthouse@{EXAMPLE_DIGEST}"])]
    """Image with Lighthouse and Chromium (images/lighthouse), by digest."""
    routes: Annotated[tuple[PageBudget, ...], Field(min_length=1, max_length=20)] = (
        PageBudget(path="/", lcp_milliseconds=1500, bundle_kilobytes=150),
        PageBudget(path="/shop"),
    )
    """Pages, in order (PERFORMANCE_BUDGETS)."""
    form_factor: Literal["mobile", "desktop"] = "mobile"
    """Emulated device: `mobile` is a slow telephone (CPU four times slower, 1.6 Mbit/s), `desktop` a computer."""
    runs: Annotated[int, Field(ge=1, le=9)] = 3
    """Runs per page; medians count."""
    least_benchmark: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Least index of the machine's speed, by Lighthouse's own benchmark, at which a failure is believed. Below it
    the page is measured again, twice, and then the update fails because of the machine."""
    run_seconds: Seconds = 90
    """Seconds until one run is ended."""
    timeout_seconds: Seconds = 900
    """Seconds for all pages."""
    resources: Resources = resources("500m", "512Mi", "256Mi", limits=("2", "1536Mi", "1Gi"))
    """CPU, memory and scratch disk of Chromium."""
    continuous: PageCheck | None = None
    """Measures the release that serves, too, every ten minutes. Without it only a rehearsal measures. Needs
    `runbook:backup`, in whose store the results are kept."""

    def _findings(self) -> list[Finding]:
        paths = [route.path for route in self.routes]
        return [
            Finding(("routes", index, "path"), f"{path} is already the path of another route")
            for index, path in enumerate(paths)
            if path in paths[:index]
        ]

    def to_task(self) -> dict[str, Any]:
        """What the task measures, as JSON."""
        return {
            "routes": [{"path": route.path, "limits": route.to_limits()} for route in self.routes],
            "formFactor": self.form_factor,
            "runs": self.runs,
            "leastBenchmark": self.least_benchmark,
            "runSeconds": self.run_seconds,
        }

    def to_check(self, check: PageCheck, internal_url: Callable[[str], str]) -> dict[str, Any]:
        """The same for a check, which ends in time. A machine that is too busy is left to the next one."""
        routes = [
            {"path": route.path, "limits": route.to_limits(), "target": check.url or internal_url(route.path)}
            for route in self.routes
        ]
        return {**self.to_task(), "routes": routes, "allSeconds": check.timeout_seconds - _AROUND_SECONDS}
