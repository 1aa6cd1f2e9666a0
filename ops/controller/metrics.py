"""The controller's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

ACTIONS = ("rollback", "rollback-failed", "lockdown", "unlock", "report", "dry-run", "failed")

disable_created_metrics()  # a second series for each counter, which no rule reads


class Metrics:
    """Counters and gauges of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._refused = self._counter(
            "refused", "Webhooks and alerts in them that were not genuine.", "reason",
            ("unauthorized", "malformed", "not-firing", "unverified"),
        )  # fmt: skip
        self._alerts = self._counter("alerts", "Alerts received.", "outcome", ("accepted", "repeated"))
        self._actions = self._counter("actions", "What was done about alerts.", "action", ACTIONS)
        self._slack_failures = Counter(
            "runbook_controller_slack_failures", "Messages that Slack did not accept.", registry=self.registry
        )
        self._gauges = {
            name: Gauge(f"runbook_controller_{name}", text, registry=self.registry)
            for name, text in (("busy", "1 while an alert is handled."), ("leader", "1 while it holds the lease."))
        }

    def refused(self, reason: str) -> None:
        """Count a webhook, or an alert in one, that was rejected as not genuine."""
        self._refused.labels(reason).inc()

    def alert(self, outcome: str) -> None:
        self._alerts.labels(outcome).inc()

    def action(self, action: str) -> None:
        self._actions.labels(action).inc()

    def slack_failed(self) -> None:
        self._slack_failures.inc()

    def gauge(self, name: str, value: float) -> None:
        self._gauges[name].set(value)

    def _counter(self, name: str, text: str, label: str, values: tuple[str, ...]) -> Counter:
        made = Counter(f"runbook_controller_{name}", text, [label], registry=self.registry)
        for value in values:
            made.labels(value)  # starts at 0: a counter that first appears with 1 shows no increase
        return made
