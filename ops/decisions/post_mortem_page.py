"""The post-mortem as HTML, with a picture of how long detection, action and recovery took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from ops.decisions.incident import Facts, Incident, Moment, describe_duration, list_actions, list_impact, list_moments

_ACTS = ("workaround", "resolve")
"""Entries of the log that are an action; so are updates of the stack and other records after the detection."""
_LEFT, _RIGHT, _WIDTH, _ROW = 90, 210, 760, 34
_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--text:#1b1f24;--soft:#4b5563;--line:#d5d9e0;--mark:#0b57d0}
@media (prefers-color-scheme:dark){:root{--ground:#0f1318;--text:#e8ebf0;--soft:#aab2bf;--line:#333b47;--mark:#8ab4f8}}
body{margin:0 auto;max-width:60rem;padding:1rem;background:var(--ground);color:var(--text);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2rem}
.wide{overflow-x:auto}svg{display:block;min-width:40rem;width:100%;height:auto}
svg text{fill:var(--text);font:14px system-ui,sans-serif}svg .soft{fill:var(--soft)}
svg line{stroke:var(--line);stroke-width:2}svg .span{stroke:var(--mark);stroke-width:4}svg circle{fill:var(--mark)}
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid var(--line);padding:.35rem .75rem .35rem 0;
text-align:left;vertical-align:top;overflow-wrap:break-word}td:first-child{white-space:nowrap}
@media (max-width:40rem){td:first-child{white-space:normal}}
"""


@dataclass(frozen=True)
class Milestones:
    """What the picture shows. None: it did not happen, or is not known."""

    release: Moment | None
    alert: Moment | None
    detection: Moment
    action: Moment | None
    recovery: Moment | None

    @property
    def to_detect(self) -> timedelta | None:
        """From the release before it. Without one, when the fault began is unknown."""
        return self.detection.at - self.release.at if self.release else None

    @property
    def to_act(self) -> timedelta | None:
        return self.action.at - self.detection.at if self.action else None

    @property
    def to_recover(self) -> timedelta | None:
        return self.recovery.at - self.detection.at if self.recovery else None

    def named(self) -> list[tuple[str, Moment | None]]:
        return [
            ("Release", self.release),
            ("Alert", self.alert),
            ("Detection", self.detection),
            ("Action", self.action),
            ("Recovery", self.recovery),
        ]


def find_milestones(incident: Incident, facts: Facts) -> Milestones:
    """Detection is the first alert or the record's opening, whichever came first."""
    alert = next(_from(facts.moments, "alert", " fires"), None)
    opened = Moment(incident.opened_at, "log", f"opened by {incident.by}")
    detection = alert if alert and alert.at < opened.at else opened
    releases = [one for one in _from(facts.moments, "update") if one.at <= detection.at]
    acts = [one for one in facts.moments if one.source in ("update", "record") and one.at > detection.at]
    acts += [
        Moment(datetime.fromisoformat(one["at"]), "log", f"{one['kind']} by {one['by']}")
        for one in incident.entries
        if one["kind"] in _ACTS
    ]
    resolution = incident.resolution
    recovery = (
        Moment(incident.resolved_at, "log", f"resolved by {resolution['by']}")
        if incident.resolved_at and resolution
        else None
    )
    action = min(acts, key=lambda one: one.at, default=None)
    return Milestones(releases[-1] if releases else None, alert, detection, action, recovery)


def _from(moments: Iterable[Moment], source: str, ending: str = "") -> Iterator[Moment]:
    found = (one for one in moments if one.source == source and one.what.endswith(ending))
    yield from sorted(found, key=lambda one: one.at)


def write_post_mortem_page(incident: Incident, facts: Facts, action_days: int) -> str:
    """The same facts as the Markdown has."""
    milestones = find_milestones(incident, facts)
    unknown: list[str] = list(facts.missing)
    impact = [*list_impact(incident, facts, unknown)]
    resolution = incident.resolution or {}
    actions = list_actions(incident, facts, action_days, unknown)
    durations = [
        ("Time to detect", milestones.to_detect, "from the release before it to the first alert or the record"),
        ("Time to act", milestones.to_act, "from detection to the first update, record, workaround or resolution"),
        ("Time to recover", milestones.to_recover, "from detection to the resolution"),
    ]
    rows = [
        (name, describe_duration(length) if length is not None else "unknown", how) for name, length, how in durations
    ]
    moments = [
        (f"{one.at:%Y-%m-%d %H:%M:%S}", one.source, " ".join(one.what.split())) for one in list_moments(incident, facts)
    ]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Post-mortem: {escape(incident.title)}</title><style>{_STYLE}</style></head><body><main>",
            f"<h1>Post-mortem: {escape(incident.title)}</h1>",
            f"<p>Incident {escape(incident.name)}, level {incident.level}, opened by {escape(incident.by)}.</p>",
            "<h2>How long it took</h2>",
            f'<div class="wide" tabindex="0" role="region" aria-label="Timeline">{draw(milestones)}</div>',
            _table(("What", "Value", "How it was computed"), rows),
            "<h2>Impact</h2>",
            _table(("What", "Value", "How it was computed"), impact),
            "<h2>Root cause</h2>",
            f"<p>{escape(resolution.get('cause') or 'Unknown.')}</p>",
            "<h2>Resolution</h2>",
            f"<p>{escape(resolution.get('text') or 'Unknown.')}</p>",
            "<h2>Actions</h2>",
            _table(("Action", "Owner", "Due"), actions) if actions else "<p>None written down.</p>",
            "<h2>Timeline (UTC)</h2>",
            _table(("When", "Source", "What"), moments),
            "<h2>Unknown</h2>",
            f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in unknown)}</ul>" if unknown else "<p>Nothing.</p>",
            "</main></body></html>",
            "",
        ]
    )


def draw(milestones: Milestones) -> str:
    """One row for each milestone, its mark where it lies in time. Rows cannot overlap, however close they are."""
    named = milestones.named()
    times = [one.at for _, one in named if one]
    first, whole = min(times), max((max(times) - min(times)).total_seconds(), 1)
    space = _WIDTH - _LEFT - _RIGHT

    def x(at: datetime) -> float:
        return round(_LEFT + space * (at - first).total_seconds() / whole, 1)

    said = "; ".join(f"{name} {f'{one.at:%H:%M:%S}' if one else 'unknown'}" for name, one in named)
    height = _ROW * len(named) + 10
    lines = [f'<svg role="img" aria-label="{escape(said)}" viewBox="0 0 {_WIDTH} {height}">']
    for place, (name, one) in enumerate(named):
        y = _ROW * place + 22
        lines.append(f'<text x="0" y="{y + 5}">{name}</text>')
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        if one is None:
            lines.append(f'<text class="soft" x="{_WIDTH - _RIGHT + 15}" y="{y + 5}">unknown</text>')
            continue
        if one.at > milestones.detection.at:
            lines.append(f'<line class="span" x1="{x(milestones.detection.at)}" x2="{x(one.at)}" y1="{y}" y2="{y}"/>')
        lines.append(f'<circle cx="{x(one.at)}" cy="{y}" r="7"/>')
        after = describe_duration(abs(one.at - milestones.detection.at))
        when = (
            "" if one.at == milestones.detection.at else f" {'+' if one.at > milestones.detection.at else '-'}{after}"
        )
        lines.append(f'<text class="soft" x="{_WIDTH - _RIGHT + 15}" y="{y + 5}">{one.at:%H:%M:%S}{when}</text>')
    return "".join([*lines, "</svg>"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{escape(one)}</th>' for one in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
