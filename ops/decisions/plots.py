"""A metric as a plot: for a terminal, and as one HTML page without scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ROWS = 6
_WIDTH, _HEIGHT = 720, 160


def plot_lines(found: Mapping[str, Any], width: int = 80) -> list[str]:
    """Each column as bars over its sum and the change against the period before; at most `width` characters wide."""
    lines: list[str] = []
    unit = f" {found['unit']}" if found["unit"] else ""
    for name, column in found["columns"].items():
        lines += [f"{name}: {format_number(column['value'])}{unit} ({found['value']}), {describe_change(column)}", ""]
        points = column["points"]
        top = max((value for value in points if value is not None), default=0)
        label = max(len(format_number(top)), 1)
        bars = _bars(_fit(points, width - label - 2), top)
        for row, text in enumerate(bars):
            mark = format_number(top) if row == 0 else "0" if row == _ROWS - 1 else ""
            lines.append(f"{mark:>{label}} {text}".rstrip())
        first, last = _moment(found["since"]), _moment(found["until"])
        space = max(1, len(bars[0]) - len(first) - len(last))
        lines += [f"{'':{label}} {first}{' ' * space}{last}", ""]
    return lines[:-1]


def _bars(points: Sequence[float | None], top: float) -> list[str]:
    """Rows of block characters, the highest first; below 0 counts as 0."""
    rows = []
    for row in range(_ROWS - 1, -1, -1):
        text = ""
        for value in points:
            eighths = 0 if value is None or top <= 0 else round(max(value, 0) / top * _ROWS * 8) - row * 8
            text += _BLOCKS[min(max(eighths, 0), 8)]
        rows.append(text)
    return rows


def _fit(points: Sequence[float | None], width: int) -> list[float | None]:
    """No more points than there are columns: neighbours become their largest."""
    if len(points) <= width:
        return list(points)
    size = -(-len(points) // width)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [max((value for value in part if value is not None), default=None) for part in parts]


def describe_change(column: Mapping[str, Any]) -> str:
    """Against the period before."""
    now, before = column["value"], column["before"]
    if before is None or now is None:
        return "nothing to compare with in the period before"
    if before == 0:
        return f"{format_number(before)} in the period before"
    percent = 100 * (now - before) / abs(before)
    return f"{percent:+.1f} % against {format_number(before)} in the period before"


def format_number(value: float | None) -> str:
    if value is None:
        return "-"
    if value == int(value):
        return f"{int(value):,}".replace(",", " ")
    return f"{value:,.2f}".replace(",", " ")


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%d.%m. %H:%M}"


def render_html(found: Mapping[str, Any], stack: str) -> str:
    """A page with a plot for each column and the numbers as a table; light and dark, and readable at 360 pixels."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(found['metric'])} of {html.escape(stack)}</title>",
        f"<style>{_STYLE}</style></head><body><main>",
        f"<h1>{html.escape(found['metric'])} of {html.escape(stack)}</h1>",
        f"<p>{html.escape(found['since'])} to {html.escape(found['until'])}, {found['stepSeconds']} s a point</p>",
    ]
    for name, column in found["columns"].items():
        unit = f" {found['unit']}" if found["unit"] else ""
        said = f"{format_number(column['value'])}{unit} ({found['value']}), {describe_change(column)}"
        parts += [f"<h2>{html.escape(name)}</h2>", f"<p>{html.escape(said)}</p>", _svg(name, found, column)]
    parts += [_table(found), "</main></body></html>"]
    return "\n".join(parts) + "\n"


_STYLE = (
    ":root{color-scheme:light dark;--ink:#1b1b1f;--ground:#fff;--bar:#2563a8}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8e8ec;--ground:#17171a;--bar:#7db3ee}}"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);margin:0}"
    "main{max-width:48rem;margin:0 auto;padding:1rem}svg{width:100%;height:auto}rect{fill:var(--bar)}"
    "div{overflow-x:auto}table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:right}"
)


def _svg(name: str, found: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    points = column["points"]
    top = max((value for value in points if value is not None), default=0) or 1
    step = _WIDTH / max(len(points), 1)
    bars = [
        f'<rect x="{place * step:.1f}" y="{_HEIGHT - height:.1f}" width="{max(step - 1, 1):.1f}" '
        f'height="{height:.1f}"><title>{html.escape(found["times"][place])}: {format_number(value)}</title></rect>'
        for place, value in enumerate(points)
        if value is not None
        for height in [_HEIGHT * max(value, 0) / top]
    ]
    label = html.escape(f"{name}, at most {format_number(top)}")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(bars)}</svg>'


def _table(found: Mapping[str, Any]) -> str:
    names = list(found["columns"])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("time", *names))
    rows = "".join(
        "<tr>"
        + f"<td>{html.escape(moment)}</td>"
        + "".join(f"<td>{format_number(found['columns'][name]['points'][place])}</td>" for name in names)
        + "</tr>"
        for place, moment in enumerate(found["times"])
    )
    return f"<details><summary>Numbers</summary><div><table><tr>{head}</tr>{rows}</table></div></details>"
