"""What customers may read of the incident records. Only what was written for them, and texts of templates, gets out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.decisions.incident import KIND, Incident, read_incident
from settings.status_page import StatusPage

SAY, SCHEDULE = "status-page", "schedule-fix"
"""Kinds of entries."""
_KEPT = timedelta(days=91)
"""The page shows 90 days."""
_MOST = 200
_IMPACTS = {1: "outage", 2: "partial", 3: "degraded", 4: "operational"}
_TITLES = {1: "Major outage", 2: "Partial outage", 3: "Degraded performance", 4: "Notice"}
MAINTENANCE = "maintenance"
"""Kind of the record of maintenance mode."""
_AUTOMATIC = {"rollback": "reverted", "lockdown": "restricted", MAINTENANCE: "maintenance"}
"""Kinds of the controller's and of commands' records that customers notice → the template of their text. They count as
partial outages, except maintenance."""
_AUTOMATIC_TITLES = {
    "rollback": "Errors after a change",
    "lockdown": "Some functions are closed",
    MAINTENANCE: "Maintenance",
}
_FAILED = ("rollback-failed", "failed")
_NOTHING_CHANGED = "given up"
"""Result of a rollback that did not begin."""


def publish_records(
    page: StatusPage, records: Iterable[Mapping[str, Any]], since: datetime, now: datetime
) -> dict[str, Any]:
    """The published facts, as `tasks.status_page.content` reads them. `since`: when the records begin."""
    found: list[dict[str, Any]] = []
    planned: list[dict[str, Any]] = []
    for record in records:
        incident = read_incident(record, record["entries"])
        shown = _of_people(page, incident) if record["kind"] == KIND else _of_controller(page, record)
        if shown and (shown["endedAt"] is None or datetime.fromisoformat(shown["endedAt"]) > now - _KEPT):
            found.append(shown)
        planned += _planned(page, incident, now)
    found.sort(key=lambda one: (one["endedAt"] is None, one["startedAt"]), reverse=True)
    return {
        "since": _text(since),
        "publishedAt": _text(now),
        "incidents": found[:_MOST],
        "planned": planned,
    }


def _of_people(page: StatusPage, incident: Incident) -> dict[str, Any] | None:
    """None: customers notice nothing of it, and there is no text for them."""
    said = [one for one in incident.entries if one["kind"] == SAY]
    periods = list(_periods(page, incident))
    if not said and all(one["impact"] == "operational" for one in periods):
        return None
    level = min((one for one in _levels(incident)), key=lambda one: one[1])[1]
    titles = [one["title"] for one in said if one.get("title")]
    updates = [{"at": one["at"], "text": one["text"]} for one in said]
    updates.insert(0, {"at": _text(incident.opened_at), "text": page.text("investigating")})
    if incident.resolution:
        updates.append({"at": incident.resolution["at"], "text": page.text("resolved")})
    return {
        "id": _identity(incident.name),
        "title": titles[-1] if titles else _TITLES[level],
        "startedAt": _text(incident.opened_at),
        "endedAt": _text(incident.resolved_at) if incident.resolved_at else None,
        "periods": periods,
        "updates": updates,
    }


def _of_controller(page: StatusPage, record: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, end = record["kind"], record.get("closedAt")
    if kind not in _AUTOMATIC or record.get("result") == _NOTHING_CHANGED:
        return None
    updates = [{"at": record["openedAt"], "text": page.text(_AUTOMATIC[kind])}]
    if end and record.get("result") not in _FAILED:
        updates.append({"at": end, "text": page.text("finished" if kind == MAINTENANCE else "resolved")})
    impact = "maintenance" if kind == MAINTENANCE else "partial"
    period = {"from": record["openedAt"], "until": end, "impact": impact, "components": list(page.affected(()))}
    return {
        "id": _identity(record["name"]),
        "title": _AUTOMATIC_TITLES[kind],
        "startedAt": record["openedAt"],
        "endedAt": end,
        "periods": [period],
        "updates": updates,
    }


def _levels(incident: Incident) -> list[tuple[datetime, int]]:
    """Each level with when it began. An assessment corrects the level that stands; an escalation begins another one."""
    found: list[tuple[datetime, int]] = []
    for one in incident.entries:
        if not (level := one.get("level")):
            continue
        if found and one["kind"] == "assess":
            found[-1] = (found[-1][0], int(level))
        else:
            found.append((datetime.fromisoformat(one["at"]) if found else incident.opened_at, int(level)))
    return found or [(incident.opened_at, incident.level)]


def _periods(page: StatusPage, incident: Incident) -> Iterator[dict[str, Any]]:
    said = [one["affects"] for one in incident.entries if one.get("affects") and one["kind"] != SCHEDULE]
    names: Sequence[str] = said[-1] if said else ()
    components = list(page.affected(tuple(names)))
    levels = _levels(incident)
    ends = [*(at for at, _ in levels[1:]), incident.resolved_at]
    for (begin, level), end in zip(levels, ends, strict=True):
        yield {
            "from": _text(begin),
            "until": _text(end) if end else None,
            "impact": _IMPACTS[level],
            "components": components,
        }


def _planned(page: StatusPage, incident: Incident, now: datetime) -> Iterator[dict[str, Any]]:
    """The last one that was scheduled replaces those before; one without a public text withdraws them."""
    last = incident.last(SCHEDULE)
    if last and last.get("public") and datetime.fromisoformat(last["until"]) > now:
        yield {
            "id": f"{_identity(incident.name)}-fix",
            "from": last["from"],
            "until": last["until"],
            "text": last["public"],
            "components": list(page.affected(tuple(last.get("affects") or ()))),
        }


def _identity(name: str) -> str:
    """The same for each publication, and says nothing."""
    return f"i{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
