"""The status page as HTML: no script, nothing loaded from elsewhere, light and dark, from 320 px on."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

from tasks.status_page.content import DOWN, UNKNOWN, UPTIME_RULE, Content, Part, Planned, Shown

_WORDS = {
    "operational": "Operational",
    "maintenance": "Under maintenance",
    "degraded": "Degraded performance",
    "partial": "Partial outage",
    "outage": "Major outage",
    UNKNOWN: "Not reported yet",
}
_OVERALL = {
    "operational": "All parts work",
    "maintenance": "Maintenance is under way",
    "degraded": "Some parts are slower than usual",
    "partial": "Some parts do not work",
    "outage": "There is a major outage",
    UNKNOWN: "Nothing has been reported yet",
}
_BAR_HEIGHT, _LOWEST = 28, 8
_HEIGHTS = {
    UNKNOWN: _LOWEST,
    "operational": 14,
    "maintenance": 14,
    "degraded": 20,
    "partial": 24,
    "outage": _BAR_HEIGHT,
}
"""The more severe, the higher: colours alone would not distinguish them."""
STYLE = """
:root{color-scheme:light dark;--ground:#fff;--card:#f6f7f9;--text:#1b1f24;--soft:#4b5563;--line:#d5d9e0;--link:#0b57d0;
--operational:#1a7f37;--maintenance:#3556c9;--degraded:#8a5a00;--partial:#b3470b;--outage:#b3141d;--unknown:#6b7280}
@media (prefers-color-scheme:dark){:root{--ground:#0f1318;--card:#181d24;--text:#e8ebf0;--soft:#aab2bf;--line:#333b47;
--link:#8ab4f8;--operational:#4fc46f;--maintenance:#8fa8ff;--degraded:#e0ac3b;--partial:#f08a4b;--outage:#ff7b7f;
--unknown:#98a1af}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:52rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:0}p{margin:.25rem 0}a{color:var(--link)}
ul,ol{list-style:none;margin:0;padding:0}
.overall{border-left:.4rem solid var(--state);background:var(--card);padding:.75rem 1rem;font-size:1.15rem;
font-weight:600}
.part,.card{border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;margin:.5rem 0}
.head{display:flex;flex-wrap:wrap;gap:.25rem 1rem;justify-content:space-between}
.state{color:var(--state);font-weight:600}
.soft,time{color:var(--soft);font-size:.9rem}
svg{display:block;width:100%;height:1.75rem;margin:.5rem 0 .25rem}
.operational{--state:var(--operational)}.maintenance{--state:var(--maintenance)}.degraded{--state:var(--degraded)}
.partial{--state:var(--partial)}.outage{--state:var(--outage)}.unknown{--state:var(--unknown)}
rect{fill:var(--state)}
.updates li{border-left:2px solid var(--line);padding-left:.75rem;margin:.5rem 0}
footer{border-top:1px solid var(--line);margin-top:2rem}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def render_page(content: Content) -> str:
    """The whole page."""
    title = escape(content.site.title)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}: {escape(_OVERALL[content.state])}</title>",
            f'<meta name="description" content="Current state of {title}: what works, incidents, maintenance.">',
            f'<link rel="alternate" type="application/atom+xml" title="{title}: status" href="feed.atom">',
            '<link rel="icon" href="data:,">',
            f"<style>{STYLE}</style></head><body>",
            f'<header><h1>{title}: status</h1><p class="overall {content.state}">{escape(_OVERALL[content.state])}</p>',
            f'<p class="soft">As of {_time(content.written)}</p></header><main>',
            *_section("open", "Current incidents", [_incident(one) for one in content.open]),
            *_section("planned", "Planned maintenance", [_maintenance(one) for one in content.planned]),
            *_section("parts", "Parts", [_part(part, content) for part in content.parts]),
            f'<p class="soft">{escape(UPTIME_RULE)}</p>',
            *_section("past", "Past incidents", [_incident(one) for one in content.past], "None in the last 90 days."),
            "</main>",
            '<footer><p><a href="feed.atom">Atom feed</a> · <a href="status.json">JSON</a></p></footer>',
            "</body></html>",
            "",
        ]
    )


def _section(name: str, title: str, items: Sequence[str], nothing: str | None = None) -> Iterator[str]:
    """A titled list; without items it says so, or is left out."""
    if not items and nothing is None:
        return
    yield f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>'
    yield f"<ul>{''.join(items)}</ul>" if items else f"<p>{nothing}</p>"
    yield "</section>"


def _part(part: Part, content: Content) -> str:
    return (
        f'<li class="part"><div class="head"><h3>{escape(part.name)}</h3>'
        f'<span class="state {part.state}">{_WORDS[part.state]}</span></div>{_bars(part, content)}</li>'
    )


def _bars(part: Part, content: Content) -> str:
    if part.uptime is None or content.since is None:
        return ""
    bad = [f"{day:%-d %B}: {_WORDS[state].lower()}" for day, state in part.days if state in (*DOWN, "degraded")]
    label = f"The last 90 days. {'; '.join(bad) or 'No incident'}."
    bars = "".join(
        f'<rect class="{state}" x="{4 * place}" width="3" '
        f'y="{_BAR_HEIGHT - _HEIGHTS[state]}" height="{_HEIGHTS[state]}"/>'
        for place, (_, state) in enumerate(part.days)
    )
    # Cut off, not rounded: 99.999 is not 100.
    percent = math.floor(part.uptime * 10_000) / 100
    known = [day for day, state in part.days if state != UNKNOWN]
    span = "90 days" if len(known) == len(part.days) else f"since {content.since:%-d %B %Y}"
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {4 * len(part.days)} {_BAR_HEIGHT}" '
        f'preserveAspectRatio="none">{bars}</svg><p class="soft">{percent:.2f} % uptime, {span}</p>'
    )


def _incident(one: Shown) -> str:
    end = f" to {_time(one.ended)}" if one.ended else ""
    updates = "".join(f"<li>{_time(each.at)}<p>{escape(each.text)}</p></li>" for each in one.updates)
    about = f'<p class="soft">{escape(", ".join(one.components))}</p>' if one.components else ""
    return (
        f'<li class="card" id="{escape(one.identity)}"><h3>{escape(one.title)}</h3>'
        f'<p class="soft">{_time(one.started)}{end}</p>{about}<ol class="updates">{updates}</ol></li>'
    )


def _maintenance(one: Planned) -> str:
    return (
        f'<li class="card" id="{escape(one.identity)}"><h3>{escape(one.text)}</h3>'
        f'<p class="soft">{_time(one.begin)} to {_time(one.end)}</p>'
        f'<p class="soft">{escape(", ".join(one.components))}</p></li>'
    )


def _time(moment: datetime) -> str:
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%-d %B %Y, %H:%M} UTC</time>'
