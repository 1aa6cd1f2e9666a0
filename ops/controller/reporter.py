"""Every place that says what the controller did: incident record, journal, metrics, log and Slack."""

from __future__ import annotations

from typing import Any

from ops.adapters.cluster import Cluster
from ops.controller.alerts import Alert
from ops.controller.guard import Verdict
from ops.controller.journal import Doing, Journal
from ops.controller.metrics import Metrics
from ops.controller.notify import Slack, log
from ops.stack import incidents


class Reporter:
    """One alert ends in one report, which also makes the journal forget what was begun for it."""

    def __init__(self, namespace: str, cluster: Cluster, journal: Journal, slack: Slack, metrics: Metrics) -> None:
        self._namespace, self._cluster = namespace, cluster
        self._journal, self._slack, self._metrics = journal, slack, metrics

    def unchanged(self, alert: Alert, verdict: Verdict) -> None:
        """Nothing was changed; the verdict says why."""
        result = "dry-run" if verdict.dry_run else "not rolled back"
        name = incidents.open_incident(
            self._cluster, "alert", {"alert": alert.name, "result": result, "reason": verdict.why}
        )
        incidents.close_incident(self._cluster, name, {})
        self._journal.end(alert.hint.key, "reported")
        self._metrics.action("dry-run" if verdict.dry_run else "report")
        log("reported", alert=alert.name, why=verdict.why, incident=name)
        self._slack.send(
            f":eyes: *{self._namespace}*: {alert.name} fires; nothing was changed: {verdict.why}. Record {name}."
        )

    def begun(self, alert: Alert, leaving: int, target: int, incident: str | None) -> Doing:
        """A rollback begins: it is in the journal before anything changes. `incident`: its record, if it is open."""
        if incident is None:
            facts = {
                "reason": f"automatic rollback: {alert.name}",
                "alert": alert.to_dict(),
                "leaving": leaving,
                "target": target,
            }
            incident = incidents.open_incident(self._cluster, "rollback", facts)
        doing = Doing(alert.to_dict(), leaving, target, incident)
        self._journal.begin(doing)
        return doing

    def given_up(self) -> None:
        """Nothing was changed: another try decides again."""
        self._journal.give_up()

    def ended(self, alert: Alert, incident: str, outcome: str, text: str, **facts: Any) -> None:
        """A rollback that had begun ended; `text` is for Slack."""
        incidents.close_incident(self._cluster, incident, {"result": outcome, **facts})
        self._journal.end(alert.hint.key, outcome)
        self._metrics.action(outcome)
        log(outcome, alert=alert.name, incident=incident, **facts)
        self._slack.send(f"{text} Record {incident}.")
