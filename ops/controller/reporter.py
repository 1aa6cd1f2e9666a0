"""Every place that says what the controller did: incident record, journal, metrics, log and Slack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.adapters.cluster import Cluster
from ops.controller.alerts import Alert
from ops.controller.guard import Verdict
from ops.controller.journal import Doing, Journal
from ops.controller.metrics import Metrics
from ops.controller.notify import Slack, log
from ops.stack import incidents
from settings import Lockdown


class Reporter:
    """An alert ends in one report; one that is judged again is reported once for each thing that is in the way."""

    def __init__(self, namespace: str, cluster: Cluster, journal: Journal, slack: Slack, metrics: Metrics) -> None:
        self._namespace, self._cluster = namespace, cluster
        self._journal, self._slack, self._metrics = journal, slack, metrics

    def unchanged(self, alert: Alert, verdict: Verdict) -> None:
        """Nothing was changed; the verdict says why. Only a final one is remembered."""
        final = verdict.again_seconds is None
        result = "dry-run" if verdict.dry_run else "not rolled back" if final else "waits"
        name = incidents.open_incident(
            self._cluster, "alert", {"alert": alert.name, "result": result, "reason": verdict.why}
        )
        incidents.close_incident(self._cluster, name, {})
        if final:
            self._journal.end(alert.hint.key, "reported")
        self._metrics.action("dry-run" if verdict.dry_run else "report")
        log("reported", alert=alert.name, why=verdict.why, final=final, incident=name)
        sign = f":rotating_light: {' '.join(verdict.mentions)}" if verdict.mentions else ":eyes:"
        text = f"{sign} *{self._namespace}*: {alert.name} fires; nothing was changed: {verdict.why}."
        later = "" if final else " It is judged again while it fires."
        self._slack.send(f"{text}{later} Record {name}.")

    def not_followed_up(self, alert: Alert, verdict: Verdict) -> None:
        """An update failed and nothing was changed: the verdict says why, and what to type."""
        result = "dry-run" if verdict.dry_run else "not followed up"
        name = incidents.open_incident(self._cluster, "update", {"result": result, "reason": verdict.why})
        incidents.close_incident(self._cluster, name, {})
        self._journal.end(alert.hint.key, "reported")
        self._metrics.action("dry-run" if verdict.dry_run else "report")
        log("reported", alert=alert.name, why=verdict.why, incident=name)
        self._slack.send(f":eyes: *{self._namespace}*: {verdict.why}. Record {name}.")

    def not_resumed(self, alert: Alert, doing: Doing, verdict: Verdict) -> None:
        """The rollback that a killed controller began is not continued: its record is closed with the reason."""
        if verdict.again_seconds is None:
            outcome = "rollback" if verdict.act == "done" else "report"
            text = f":eyes: *{self._namespace}*: the rollback for {alert.name} is no longer needed: {verdict.why}."
        else:
            outcome = "failed"
            text = f":warning: *{self._namespace}*: the rollback for {alert.name} could not go on: {verdict.why}"
        self.ended(alert, doing.incident, outcome, text, how=verdict.why)

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

    def given_up(self, incident: str, why: str) -> None:
        """Nothing was changed: another try decides again."""
        incidents.close_incident(self._cluster, incident, {"result": "given up", "error": why})
        self._journal.give_up()

    def ended(self, alert: Alert, incident: str, outcome: str, text: str, **facts: Any) -> None:
        """A rollback that had begun ended; `text` is for Slack."""
        incidents.close_incident(self._cluster, incident, {"result": outcome, **facts})
        self._journal.end(alert.hint.key, outcome)
        self._metrics.action(outcome)
        log(outcome, alert=alert.name, incident=incident, **facts)
        self._slack.send(f"{text} Record {incident}.")

    def locked_down(self, alert: Alert, lockdown: Lockdown, done: Mapping[str, Any]) -> None:
        self._journal.end(alert.hint.key, "lockdown")
        self._metrics.action("lockdown")
        until = f"{lockdown.until:%H:%M:%S} UTC"
        log("locked down", alert=alert.name, until=until, seconds=done["seconds"], incident=done["incident"])
        self._slack.send(
            f":lock: *{self._namespace}*: {alert.name} locked the shop down until {until} "
            f"({done['seconds']} s, record {done['incident']}). Sooner: `runbook security unlock`."
        )

    def unlocked(self) -> None:
        self._metrics.action("unlock")
        log("expired lockdown ended")

    def resolved(self, alert: Alert) -> None:
        """It does not fire any more: there is nothing to decide, and Alertmanager notifies people."""
        log("resolved while it waited", alert=alert.name)

    def failed(self, what: str, error: str) -> None:
        """The controller itself failed."""
        self._metrics.action("failed")
        log("failed", error=error)
        self._slack.send(f":warning: *{self._namespace}*: the rollback controller failed: {what}")
