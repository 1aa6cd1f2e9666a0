"""The status page as JSON and as an Atom feed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tasks.status_page.content import UPTIME_RULE, Content, Planned, Shown


def render_json(content: Content) -> str:
    """All that the page says, for programs."""
    parts = [
        {
            "name": part.name,
            "state": part.state,
            "uptime": None if part.uptime is None else round(part.uptime, 6),
            "days": [{"day": day.isoformat(), "state": state} for day, state in part.days],
        }
        for part in content.parts
    ]
    said: dict[str, Any] = {
        "title": content.site.title,
        "state": content.state,
        "writtenAt": _text(content.written),
        "since": _text(content.since) if content.since else None,
        "uptimeRule": UPTIME_RULE,
        "components": parts,
        "incidents": [_incident(one) for one in (*content.open, *content.past)],
        "plannedMaintenance": [_maintenance(one) for one in content.planned],
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def render_atom(content: Content) -> str:
    """A feed of incidents and planned maintenance; each entry changes with its updates."""
    url = content.site.url.rstrip("/") + "/"
    entries: list[tuple[datetime, str]] = []
    for one in (*content.open, *content.past):
        times = [one.started, *(update.at for update in one.updates)]
        changed: datetime = max(one.ended or one.started, *times)
        text = "\n".join(f"{update.at:%Y-%m-%d %H:%M} UTC: {update.text}" for update in one.updates)
        entries.append((changed, _entry(url, one.identity, one.title, one.started, changed, text)))
    for planned in content.planned:
        when = f"{planned.begin:%Y-%m-%d %H:%M} to {planned.end:%Y-%m-%d %H:%M} UTC"
        # Its begin lies ahead, and a reader hides an entry of the future.
        at = content.since or content.written
        text = f"{when}: {planned.text}"
        entries.append((at, _entry(url, planned.identity, f"Planned maintenance, {when}", at, at, text)))
    entries.sort(key=lambda one: one[0], reverse=True)
    newest = entries[0][0] if entries else content.since or content.written
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en">',
        f"<id>{escape(url)}</id>",
        f"<title>{escape(content.site.title)}: status</title>",
        f"<updated>{_text(newest)}</updated>",
        f"<author><name>{escape(content.site.title)}</name></author>",
        f'<link rel="self" href={quoteattr(url + "feed.atom")}/>',
        f"<link href={quoteattr(url)}/>",
        *(text for _, text in entries),
        "</feed>",
    ]
    return "\n".join(lines) + "\n"


def _entry(url: str, identity: str, title: str, at: datetime, changed: datetime, text: str) -> str:
    link = f"{url}#{identity}"
    return (
        f"<entry><id>{escape(link)}</id><title>{escape(title)}</title><link href={quoteattr(link)}/>"
        f"<published>{_text(at)}</published><updated>{_text(changed)}</updated>"
        f'<content type="text">{escape(text)}</content></entry>'
    )


def _incident(one: Shown) -> dict[str, Any]:
    return {
        "id": one.identity,
        "title": one.title,
        "startedAt": _text(one.started),
        "endedAt": _text(one.ended) if one.ended else None,
        "components": list(one.components),
        "updates": [{"at": _text(update.at), "text": update.text} for update in one.updates],
    }


def _maintenance(one: Planned) -> dict[str, Any]:
    return {
        "id": one.identity,
        "from": _text(one.begin),
        "until": _text(one.end),
        "text": one.text,
        "components": list(one.components),
    }


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
