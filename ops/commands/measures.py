"""What Prometheus knows of a stack now: alerts, requests, backups, ages of secrets. For status and its live screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ops.adapters.cluster import Cluster
from ops.adapters.prometheus import Sample, prometheus_of
from ops.errors import OpsError
from settings import Monitoring, StackSettings

ALERTS = {"alerts": 'ALERTS{alertstate="firing"}'}
_COUNT, _BUCKET = "http_request_duration_seconds_count", "http_request_duration_seconds_bucket"
_ORDER = ("critical", "warning", "info", "none")
_OWN = ("Watchdog",)
"""Fires all the time, so that a dead man's switch notices when it stops."""
_LISTED = 8


def requests(monitoring: Monitoring, span: int) -> dict[str, str]:
    """Customers' requests of the last `span` seconds: rate, errors, response times."""
    from monitoring.alerts.requests import counted

    all_, failed = counted(monitoring), counted(monitoring, 'status=~"5.."')
    times = {
        f"p{percent}": f"histogram_quantile({percent / 100:g}, sum by (le) (rate({_BUCKET}{all_}[{span}s])))"
        for percent in (50, 95, 99)
    }
    answers, errors = (f"sum(rate({_COUNT}{which}[{span}s]))" for which in (all_, failed))
    return {"perSecond": answers, "errorPercent": f"100 * ({errors} or vector(0)) / {answers}", **times}


def count_requests(matchers: str, seconds: int, at: str = "") -> str:
    """Requests of that time. Not `increase`, which misses the first ones of a series: one for a status that was never
    answered before begins with the first such answer. `at`: a modifier (`@ 1234`), else until now."""
    counter = f"{_COUNT}{matchers}"
    most = f"max_over_time({counter}[{seconds}s]{at})"
    return f"({most} - ({counter}{at} offset {seconds}s or {most} * 0))"


def routes(monitoring: Monitoring, span: int) -> dict[str, str]:
    """The slowest routes by their 95th percentile, and those with errors."""
    from monitoring.alerts.requests import counted

    all_, failed = counted(monitoring), counted(monitoring, 'status=~"5.."')
    slow = f"histogram_quantile(0.95, sum by (route, le) (rate({_BUCKET}{all_}[{span}s])))"
    return {
        "slowRoutes": f"topk({_LISTED}, {slow} > 0)",
        "failingRoutes": f"topk({_LISTED}, sum by (route) (rate({_COUNT}{failed}[{span}s])) > 0)",
    }


CONTAINERS = {
    "cpu": 'sum by (pod) (rate(container_cpu_usage_seconds_total{container!=""}[2m]))',
    "memory": 'sum by (pod) (container_memory_working_set_bytes{container!=""})',
}
BACKUPS = {
    "backupAge": "time() - max(runbook_backup_last_success_timestamp_seconds{})",
    "provenAge": "time() - max(runbook_backup_last_proven_timestamp_seconds{})",
}
_ROTATED = "runbook_secret_rotated_timestamp_seconds{}"
SECRETS = {
    "overdue": f"time() - {_ROTATED} > runbook_secret_max_age_seconds{{}} and {_ROTATED} > 0",
    "rotating": 'runbook_secret_phase{phase!~"retired|failed"} == 1',
}


class Measures:
    """The answers, by name; what could not be had is in `notes`, once."""

    def __init__(self, answers: Mapping[str, list[Sample] | str], notes: list[str]) -> None:
        self._answers, self.notes = answers, notes

    def samples(self, name: str) -> Sequence[Sample] | None:
        found = self._answers.get(name)
        return None if found is None or isinstance(found, str) else found

    def number(self, name: str, digits: int = 3) -> float | None:
        """The value of the only sample; None without one."""
        found = self.samples(name)
        if not found or math.isnan(found[0].value):
            return None
        return round(found[0].value, digits)

    def by(self, name: str, label: str, digits: int = 3) -> dict[str, float] | None:
        """Values by a label, the largest first."""
        found = self.samples(name)
        if found is None:
            return None
        rows = sorted(((one.labels.get(label, "?"), one.value) for one in found), key=lambda row: -row[1])
        return {key: round(value, digits) for key, value in rows if not math.isnan(value)}

    def alerts(self) -> list[dict[str, Any]] | None:
        """Firing alerts, the most severe first; several of one name are one."""
        found = self.samples("alerts")
        if found is None:
            return None
        names: dict[str, dict[str, Any]] = {}
        for one in found:
            name = one.labels.get("alertname", "?")
            severity = one.labels.get("severity", "none")
            if name not in _OWN and severity != "none":
                made = {"name": name, "severity": severity, "channel": one.labels.get("channel"), "count": 0}
                names.setdefault(name, made)["count"] += 1
        return sorted(names.values(), key=lambda one: (_ORDER.index(one["severity"]), one["name"]))


def measure(settings: StackSettings, cluster: Cluster, queries: Mapping[str, str]) -> Measures:
    """Run the queries at once. Without monitoring there are no answers, and a note says what to write."""
    try:
        answers = prometheus_of(settings, cluster).query_all(queries)
    except OpsError as error:
        return Measures({}, [f"nothing from metrics: {error.brief}"])
    reasons = dict.fromkeys(found for found in answers.values() if isinstance(found, str))
    return Measures(answers, [f"not everything from metrics: {reason}" for reason in reasons])
