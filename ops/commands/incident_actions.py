"""`runbook incident actions|action-done|remind`: what post-mortems say is to be done, until it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from ops.commands.incident import IncidentLog
from ops.decisions.actions import DONE, Action, find_action, list_actions_of, select_due, write_reminders


def today_utc() -> date:
    return datetime.now(UTC).date()


def list_actions(log: IncidentLog, days: int | None, *, closed: bool) -> list[Action]:
    """Open actions; with `days` those due within them, with `closed` also those that are done."""
    found = list_actions_of(log.list_all(), log.settings.incidents.action_days)
    if days is not None:
        return select_due(found, today_utc(), days)
    return [one for one in found if closed or one.done is None]


def finish_action(log: IncidentLog, name: str | None, number: int, text: str) -> dict[str, Any]:
    """Write down that it is done."""
    incident = log.find(name, closed=True)
    action = find_action(list_actions(log, None, closed=True), incident.name, number)
    return log.append(incident.name, {"kind": DONE, "action": number, "text": text or action.what})


def remind(log: IncidentLog, days: int | None, today: Callable[[], date] = today_utc) -> dict[str, Any]:
    """Send what is due to the channels of the incidents' levels. Nothing is written: it is run once a day."""
    within = log.settings.incidents.remind_days if days is None else days
    found = list_actions_of(log.list_all(), log.settings.incidents.action_days)
    due = select_due(found, today(), within)
    sent = [log.notify(level, text) for level, text in write_reminders(due, today()).items()]
    return {"actions": [one.to_json(today()) for one in due], "notified": sent}
