"""Enhanced mode of an incident (HerbisVeritas "Incident Response": `monitoring:enhanced-mode`).

It reads, and writes into the incident's log: no update of the stack, which would hold the lock that a rollback needs,
and could apply a broken release again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.commands.incident import IncidentLog
from ops.decisions.incident import Incident
from ops.decisions.observation import OBSERVED, PART, SPAN, WATCH, Observed, find_signs
from ops.errors import OpsError, Refused
from settings.incidents import INCIDENTS, Pace


@dataclass
class EnhancedMode:
    """Observes until the incident is resolved. Of two that watch one incident, the one that began later goes on."""

    log: IncidentLog
    read: Callable[[], Mapping[str, Any]]
    """A frame of `runbook status --watch`."""
    say: Callable[[str], object]
    wait: Callable[[float], object]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    identity: str = field(default_factory=lambda: secrets.token_hex(4))

    def run(self, name: str | None, times: int | None = None) -> dict[str, Any]:
        """Until its resolution, another one takes over, or for so many observations."""
        incident = self.log.find(name)
        pace = self._require_pace(incident)
        self._write(incident, f"enhanced mode: observed every {pace.watch_seconds} s", "on")
        observed, done, why = Observed(), 0, ""
        try:
            while True:
                try:
                    incident = self.log.find(incident.name)
                    if why := self._find_end(incident):
                        break
                    pace = self._pace(incident)
                    observed = self._observe(incident, pace, observed)
                except OpsError as error:
                    # During an incident it goes on: what was not written is news again next time.
                    self.say(f"not observed: {error.brief}")
                done += 1
                if times and done >= times:
                    why = f"{done} observations were wanted"
                    break
                self.wait(pace.watch_seconds)
        except KeyboardInterrupt:
            why = "stopped"
        if incident.resolution is None and self._is_mine(incident):
            self._write(incident, f"enhanced mode is off: {why}", "off")
        return {"incident": incident.name, "observations": done, "ended": why, "signs": list(observed.signs.values())}

    def _observe(self, incident: Incident, pace: Pace, before: Observed) -> Observed:
        signs = find_signs(self.read(), self.log.settings.monitoring)
        after, news = before.follow(signs, incident, pace, self.now())
        if news:
            done = self.log.append(incident.name, {"kind": OBSERVED, "text": news.text}, notify=True)
            self.say(f"{news.text} ({done['notified']['text']})")
        return after

    def _find_end(self, incident: Incident) -> str:
        if incident.resolution:
            return f"{incident.name} is resolved"
        if not self._is_mine(incident):
            by = (incident.last(WATCH) or {}).get("by", "someone")
            return f"{by} watches it now"
        if not self._pace(incident).watch_seconds:
            return f"level {incident.level} has no enhanced mode"
        return ""

    def _is_mine(self, incident: Incident) -> bool:
        last = incident.last(WATCH)
        return last is None or last.get("watcher") == self.identity

    def _pace(self, incident: Incident) -> Pace:
        return self.log.settings.incidents.pace(incident.level)

    def _require_pace(self, incident: Incident) -> Pace:
        pace = self._pace(incident)
        if incident.resolution:
            raise Refused(f"{incident.name} is resolved: there is nothing to watch.")
        if not pace.watch_seconds:
            raise Refused(
                f"{incident.name} is of level {incident.level}, which has no enhanced mode: `runbook incident "
                f"escalate`, or set {INCIDENTS}.level{incident.level}.watchSeconds. Nothing was changed."
            )
        return pace

    def _write(self, incident: Incident, text: str, state: str) -> None:
        entry = {"kind": WATCH, "text": text, "state": state, "watcher": self.identity}
        self.log.append(incident.name, entry)
        self.say(text)


def describe_limits(log: IncidentLog) -> str:
    """What enhanced mode names, for people."""
    monitoring = log.settings.monitoring
    if monitoring is None:
        return "This stack has no monitoring: pods, health and the commands that run are observed, and no metrics."
    errors, slow = PART * monitoring.critical.error_rate_percent, PART * monitoring.triggers.response_milliseconds
    return (
        f"Named are {errors:g} % errors or {slow:g} ms for 5 % of the requests within {SPAN} s (half of the alerts' "
        "limits, over a shorter time), alerts, pods, health and commands that run."
    )
