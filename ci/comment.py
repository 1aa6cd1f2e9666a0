"""The text of comments and issues: what changes in one line and a table, then the details, within the forge's limit."""

from __future__ import annotations

import re
from collections import Counter

from ci.engine_run import VERBS, Change, EngineRun

_ROWS = 50
_ERRORS = 4_000  # characters
_NAMES = {"delete": "delete", "replace": "**replace**", "update": "update", "create": "create"}


def marker(what: str) -> str:
    """The first line of a comment, by which the next run finds it. Not shown."""
    return f"<!-- runbook: {what} -->"


def render_preview(stack: str, run: EngineRun, *, limit: int, details: str) -> str:
    """The comment of one stack. `limit` in characters; `details` is the address of the run with the whole output."""
    return _fit(marker(f"preview of {stack}"), f"### Preview of `{stack}`: {summarize(run)}", run, limit, details)


def render_drift(stack: str, cluster: EngineRun, program: EngineRun, *, limit: int, details: str) -> str:
    """The issue of a stack whose cluster, state and program are not the same."""
    half = limit // 2
    return "\n\n".join(
        [
            _fit(
                marker(f"drift of {stack}"),
                f"### The cluster against the stack's state: {summarize(cluster)}\n\n"
                "`runbook status` names who changed which field. `pulumi up --refresh` restores the state's values.",
                cluster,
                half,
                details,
            ),
            _fit("", f"### The stack against the program: {summarize(program)}", program, half, details),
        ]
    )


def summarize(run: EngineRun) -> str:
    """One line: how many resources of each kind of change, or that it failed."""
    if not run.succeeded:
        return "**failed**"
    if not run.changes:
        return f"no changes ({run.unchanged} resources)"
    counts = Counter(change.verb for change in run.changes)
    parts = [f"{counts[verb]} to {verb}" for verb in VERBS.values() if counts[verb]]
    return f"{', '.join(parts)} ({run.unchanged} unchanged)"


def _fit(head: str, title: str, run: EngineRun, limit: int, details: str) -> str:
    above = [head, title] if head else [title]
    if run.errors:
        above.append(_fenced(_cut(run.errors, _ERRORS, details)))
    if run.changes:
        above.append(_table(run.changes, details))
    text = "\n\n".join(above)
    room = limit - len(text) - 200
    if not run.printed.strip() or room < 500:
        return text[:limit]
    output = _fenced(_cut(run.printed, room, details))
    return f"{text}\n\n<details><summary>The engine's output</summary>\n\n{output}\n\n</details>"


def _table(changes: tuple[Change, ...], details: str) -> str:
    rows = ["| | resource | type | differs in |", "|---|---|---|---|"]
    for change in changes[:_ROWS]:
        fields = ", ".join(f"`{_cell(field)}`" for field in change.fields[:5])
        more = f" and {len(change.fields) - 5} more" if len(change.fields) > 5 else ""
        verb = _NAMES.get(change.verb, change.verb)
        rows.append(f"| {verb} | `{_cell(change.name)}` | `{_cell(change.kind)}` | {fields}{more} |")
    if len(changes) > _ROWS:
        rows.append(f"| | and {len(changes) - _ROWS} more | [all of them]({details}) | |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")[:120]


def _cut(text: str, limit: int, details: str) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… cut here: the whole output is in the run, {details}"


def _fenced(text: str) -> str:
    """As a code block, whose fence is longer than any in the text."""
    longest = max((len(found) for found in re.findall("~{3,}", text)), default=2)
    fence = "~" * (longest + 1)
    return f"{fence}\n{text}\n{fence}"
