"""The controller's metrics, in Prometheus's text format."""

from __future__ import annotations

import threading
from collections import Counter

ACTIONS = ("rollback", "rollback-failed", "lockdown", "unlock", "report", "dry-run", "failed")


class Metrics:
    """Counters and gauges of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Start at 0: a counter that first appears with 1 shows no increase.
        self._totals: Counter[tuple[str, str]] = Counter()
        for reason in ("unauthorized", "malformed", "not-firing", "unverified"):
            self._totals[("runbook_controller_refused_total", f'reason="{reason}"')] = 0
        for outcome in ("accepted", "repeated"):
            self._totals[("runbook_controller_alerts_total", f'outcome="{outcome}"')] = 0
        for action in ACTIONS:
            self._totals[("runbook_controller_actions_total", f'action="{action}"')] = 0
        self._totals[("runbook_controller_slack_failures_total", "")] = 0
        self._gauges: dict[str, float] = {"runbook_controller_busy": 0, "runbook_controller_leader": 0}

    def refused(self, reason: str) -> None:
        """Count a webhook, or an alert in one, that was rejected as not genuine."""
        self._add("runbook_controller_refused_total", f'reason="{reason}"')

    def alert(self, outcome: str) -> None:
        self._add("runbook_controller_alerts_total", f'outcome="{outcome}"')

    def action(self, action: str) -> None:
        self._add("runbook_controller_actions_total", f'action="{action}"')

    def slack_failed(self) -> None:
        self._add("runbook_controller_slack_failures_total", "")

    def gauge(self, name: str, value: float) -> None:
        with self._lock:
            self._gauges[f"runbook_controller_{name}"] = value

    def _add(self, name: str, labels: str) -> None:
        with self._lock:
            self._totals[(name, labels)] += 1

    def text(self) -> str:
        with self._lock:
            totals, gauges = sorted(self._totals.items()), sorted(self._gauges.items())
        lines: list[str] = []
        for name in dict.fromkeys(name for (name, _), _ in totals):
            lines.append(f"# TYPE {name} counter")
            lines += [f"{name}{{{labels}}} {count}" if labels else f"{name} {count}"
                      for (other, labels), count in totals if other == name]  # fmt: skip
        for name, value in gauges:
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
