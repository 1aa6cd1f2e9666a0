"""What page checks found: where each page stands now, and its history as one HTML page without scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import pairwise
from statistics import median
from typing import Any

from settings.performance import METRICS

Check = Mapping[str, Any]
"""As kept by `python -m tasks pages keep`."""
_DECIDED = ("kept", "over budget")
_LEFT, _WIDTH, _HEIGHT, _HEAD = 60, 720, 160, 18
_GAPS = 3
"""A line is interrupted where so many checks are missing."""
_LISTED = 100
_DOTTED = 400
"""Up to so many checks each point can be pointed at; more would be a large page."""


def list_pages(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Each page by its last result, with the last one that decided about it. `checks`: the oldest first."""
    pages: dict[str, dict[str, Any]] = {}
    for check in checks:
        for page in check["pages"]:
            known = pages.setdefault(page["path"], {"decided": None})
            known |= {"path": page["path"], "at": check["at"], "result": page["result"], "why": page.get("why")}
            if page["result"] in _DECIDED:
                known["decided"] = {**page, "at": check["at"], "release": check["release"]}
    return list(pages.values())


def has_missed_budget(pages: Sequence[Mapping[str, Any]]) -> bool:
    """A page that could not be judged the last time is judged by the time before."""
    return any(page["decided"] and page["decided"]["over"] for page in pages)


def describe_pages(pages: Sequence[Mapping[str, Any]], checks: Sequence[Check]) -> str:
    """For a terminal."""
    lines: list[str] = []
    for page in pages:
        why = f": {page['why']}" if page["why"] else ""
        lines.append(f"{page['path']}: {page['result']} at {_minute(page['at'])}{why}")
        decided = page["decided"]
        if decided is None:
            lines.append("  never measured in this time")
            continue
        since = "" if decided["at"] == page["at"] else f" (of {_minute(decided['at'])})"
        for name, value in decided["values"].items():
            limit = decided["limits"].get(name)
            budget = "" if limit is None else f", budget {show(name, limit)}"
            over = "  over budget" if name in decided["over"] else ""
            lines.append(f"  {METRICS[name][0]} {show(name, value)}{budget}{over}")
        if decided["over"]:
            lines.append(f"  worst: {decided['worst']}")
        lines.append(f"  {describe_release(decided['release'])}{since}")
    lines.append(f"{len(checks)} checks{_count_results(checks)}")
    return "\n".join(lines)


def describe_release(release: Mapping[str, str]) -> str:
    return f"release {release['revision']} ({release['git'] or release['image'].rpartition('@')[2]})"


def show(name: str, value: float) -> str:
    """A value with its unit."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if name == "cls" else f"{value:.0f}{METRICS[name][1]}"


def _count_results(checks: Sequence[Check]) -> str:
    counts: dict[str, int] = {}
    for check in checks:
        for page in check["pages"]:
            counts[page["result"]] = counts.get(page["result"], 0) + 1
    return "".join(f", {count} {result}" for result, count in sorted(counts.items()))


def _minute(at: str) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M} UTC"


# -- HTML ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Point:
    at: float
    value: float | None
    believed: bool


def render_pages(checks: Sequence[Check], stack: str) -> str:
    """A picture for each metric, with one line for each page; releases are marked."""
    title = escape(f"Pages of {stack}")
    span = f"{_minute(checks[0]['at'])} to {_minute(checks[-1]['at'])}" if checks else "no checks"
    pages = list_pages(checks)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>",
        f"<p>{escape(span)}: {len(checks)} checks{escape(_count_results(checks))}. A vertical line is a release, a "
        "dashed one a budget; a ring is a miss on a machine that was too busy to be believed.</p>",
    ]
    if checks:
        parts += [_figure(name, checks, [page["path"] for page in pages]) for name in METRICS]
        parts.append(_table(checks))
    return "\n".join([*parts, "</main></body></html>"]) + "\n"


def _figure(name: str, checks: Sequence[Check], paths: Sequence[str]) -> str:
    title, unit = METRICS[name]
    lines = {path: list(_points(name, path, checks)) for path in paths}
    limits = {path: limit for path in paths if (limit := _find_limit(name, path, checks)) is not None}
    measured = [point for points in lines.values() for point in points if point.value is not None]
    # What a busy machine measured, often many times the rest, would flatten all lines.
    seen = [point.value or 0 for point in measured if point.believed] or [point.value or 0 for point in measured]
    top = max([*seen, *limits.values()], default=0) * 1.05 or 1
    times = [_seconds(check) for check in checks]
    first, whole = times[0], max(times[-1] - times[0], 1)

    def x(at: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - 10) * (at - first) / whole:.1f}"

    def y(value: float) -> str:
        return f"{_HEAD + _HEIGHT * (1 - min(value / top, 1)):.1f}"

    drawn = [
        f'<text x="0" y="{_HEAD + 5}">{escape(show(name, top))}</text><text x="0" y="{_HEAD + _HEIGHT}">0</text>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{_HEAD + _HEIGHT}" y2="{_HEAD + _HEIGHT}"/>',
    ]
    for at, release in _list_releases(checks):
        drawn.append(
            f'<g class="release"><line x1="{x(at)}" x2="{x(at)}" y1="{_HEAD}" y2="{_HEAD + _HEIGHT}"/>'
            f'<text x="{x(at)}" y="12">r{escape(release["revision"])}</text>'
            f"<title>{escape(describe_release(release))}</title></g>"
        )
    gap = _GAPS * median([later - earlier for earlier, later in pairwise(times)] or [whole])
    legend: list[str] = []
    for place, path in enumerate(paths):
        style = f"--line:hsl({place * 137 % 360} 65% 45%)"
        budget = ""
        if path in limits:
            limit = y(limits[path])
            drawn.append(f'<line class="budget" style="{style}" x1="{_LEFT}" x2="{_WIDTH}" y1="{limit}" y2="{limit}"/>')
            budget = f" (budget {show(name, limits[path])})"
        for part in _split(lines[path], gap):
            places = " ".join(f"{x(point.at)},{y(point.value or 0)}" for point in part)
            drawn.append(f'<polyline class="page" style="{style}" points="{places}"/>')
            dotted = part if len(checks) <= _DOTTED else []
            drawn += [
                f'<circle class="dot" style="{style}" cx="{x(point.at)}" cy="{y(point.value or 0)}" r="2">'
                f"<title>{escape(f'{path}: {show(name, point.value or 0)}')}</title></circle>"
                for point in dotted
            ]
        drawn += [
            f'<circle class="busy" style="{style}" cx="{x(point.at)}" cy="{y(point.value)}" r="4">'
            f"<title>{escape(f'{path}: {show(name, point.value)}')}</title></circle>"
            for point in lines[path]
            if point.value is not None and not point.believed
        ]
        legend.append(f'<span><b style="{style}">●</b> {escape(path)}{escape(budget)}</span>')
    label = escape(f"{title}, at most {show(name, top)}")
    return (
        f"<figure><figcaption><h2>{escape(title)}{escape(f' in{unit}' if unit else '')}</h2>{' '.join(legend)}"
        f'</figcaption><div><svg viewBox="0 0 {_WIDTH} {_HEAD + _HEIGHT + 4}" role="img" aria-label="{label}">'
        f"{''.join(drawn)}</svg></div></figure>"
    )


def _points(name: str, path: str, checks: Sequence[Check]) -> Iterator[_Point]:
    for check in checks:
        for page in check["pages"]:
            if page["path"] == path:
                yield _Point(_seconds(check), page.get("values", {}).get(name), page["result"] in _DECIDED)


def _split(points: Sequence[_Point], gap: float) -> list[list[_Point]]:
    """Lines through what was measured; interrupted where nothing was for long. What is not believed is on none."""
    parts: list[list[_Point]] = []
    for point in points:
        if point.value is None or not point.believed:
            continue
        if not parts or point.at - parts[-1][-1].at > gap:
            parts.append([])
        parts[-1].append(point)
    return parts


def _find_limit(name: str, path: str, checks: Sequence[Check]) -> float | None:
    """The newest."""
    for check in reversed(checks):
        for page in check["pages"]:
            if page["path"] == path and "limits" in page:
                return page["limits"].get(name)
    return None


def _list_releases(checks: Sequence[Check]) -> Iterator[tuple[float, Mapping[str, str]]]:
    """When each release was first measured."""
    before: Mapping[str, str] = {}
    for check in checks:
        release: Mapping[str, str] = check["release"]
        if release != before:
            yield _seconds(check), release
        before = release


def _seconds(check: Check) -> float:
    return datetime.fromisoformat(check["at"]).timestamp()


def _table(checks: Sequence[Check]) -> str:
    rows = [
        (
            _minute(check["at"]),
            describe_release(check["release"]),
            page["path"],
            page["result"],
            *(show(name, page["values"][name]) if "values" in page else "" for name in METRICS),
            page.get("worst") or page.get("why") or "",
        )
        for check in reversed(checks)
        for page in check["pages"]
    ][:_LISTED]
    names = ("When", "Release", "Page", "Result", *(title for title, _ in METRICS.values()), "Worst")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<h2>Last results</h2><div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


_STYLE = (
    ":root{color-scheme:light dark;--ink:#1b1b1f;--ground:#fff;--soft:#8888}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8e8ec;--ground:#17171a}}"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);margin:0}"
    "main{max-width:60rem;margin:0 auto;padding:1rem}figure{margin:0}h2{font-size:1.1rem;margin:1.5rem 0 0}"
    "div{overflow-x:auto}svg{width:100%;min-width:36rem;height:auto}svg text{fill:var(--ink);font:11px system-ui}"
    "span{white-space:nowrap}b{color:var(--line)}.axis,.release line{stroke:var(--soft)}"
    ".page{fill:none;stroke:var(--line);stroke-width:2}.dot{fill:var(--line)}.busy{fill:none;stroke:var(--line)}"
    ".budget{stroke:var(--line);stroke-dasharray:4 4}"
    "table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:left;border-bottom:1px solid var(--soft)}"
)
