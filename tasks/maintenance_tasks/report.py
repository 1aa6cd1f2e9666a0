"""The report of a run, below `maintenance/`: JSON, HTML, and what changed since the last one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from tasks.errors import TaskError
from tasks.progress import say
from tasks.store import Missing, Store

FOLDER = "maintenance/"
PARTIAL = "-part"
"""Ends the name of a run of some tasks only."""
_MOST_CHANGES = 200
_KEYS = {"schedule", "run", "began_at", "ended_at", "seconds", "result", "summary", "tasks", "previous", "changes"}
Report = dict[str, Any]


def folder_of(schedule: str) -> str:
    return f"{FOLDER}{schedule}/"


def name_run(began: datetime, *, partial: bool) -> str:
    """Two runs in one second have two names."""
    return f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03}Z{PARTIAL if partial else ''}"


def list_runs(store: Store, schedule: str) -> list[str]:
    """Names of the runs that have a report, newest first."""
    prefix = folder_of(schedule)
    keys = (entry.key for entry in store.entries(prefix))
    return sorted(key.removeprefix(prefix).removesuffix(".json") for key in keys if key.endswith(".json"))[::-1]


def read(store: Store, schedule: str, run: str) -> Report:
    """`report_invalid` if it is no report."""
    key = f"{folder_of(schedule)}{run}.json"
    try:
        found = json.loads(store.get(key))
        if isinstance(found, dict) and found.keys() >= _KEYS:
            return found
    except ValueError:
        pass
    raise TaskError("report_invalid", f"{store.url}/{key} is no report of maintenance")


def read_newest(store: Store, schedule: str) -> Report | None:
    """The newest one of a whole run that can be read."""
    for run in list_runs(store, schedule):
        if run.endswith(PARTIAL):
            continue
        try:
            return read(store, schedule, run)
        except Missing:
            continue  # deleted since it was listed
        except TaskError as error:
            if error.code != "report_invalid":
                raise
            say(f"warning: {error}")
    return None


def keep(store: Store, report: Report) -> str:
    """Write both forms; the key of the JSON, which comes last and makes the report count."""
    stem = f"{folder_of(report['schedule'])}{report['run']}"
    store.put(f"{stem}.html", to_html(report).encode(), keep=False)
    store.put(f"{stem}.json", json.dumps(report, indent=1).encode(), keep=False)
    return f"{stem}.json"


def clean_up(store: Store, schedule: str, now: datetime, *, days: int, least: int) -> int:
    """Delete reports that are older than `days`, except the newest `least`; how many runs that were."""
    prefix, oldest = folder_of(schedule), name_run(now - timedelta(days=days), partial=False)
    old = [run for run in list_runs(store, schedule)[least:] if run < oldest]
    # The JSON last: while it is there, the next run deletes both.
    store.delete(f"{prefix}{run}.html" for run in old)
    store.delete(f"{prefix}{run}.json" for run in old)
    return len(old)


def compare(tasks: Sequence[Mapping[str, Any]], previous: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What differs from the previous report, task by task: {task, what, before, now}; None is "not there"."""
    if previous is None:
        return []
    return list(_differences(tasks, {task["name"]: task for task in previous["tasks"]}))[:_MOST_CHANGES]


def _differences(
    tasks: Sequence[Mapping[str, Any]], earlier: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for task in tasks:
        before = earlier.get(task["name"])
        if before is None:
            continue
        if before["result"] != task["result"]:
            yield {"task": task["name"], "what": "result", "before": before["result"], "now": task["result"]}
        if not (task["measures"] and before["measures"]):
            continue  # one of the two did not come so far
        for what in dict.fromkeys([*before["measures"], *task["measures"]]):
            old, new = before["measures"].get(what), task["measures"].get(what)
            if old != new:
                yield {"task": task["name"], "what": what, "before": old, "now": new}


# -- for people ------------------------------------------------------------------------------------


def to_text(report: Mapping[str, Any]) -> str:
    """For a terminal."""
    lines = [f"{report['schedule']} maintenance {report['run']}: {report['summary']}"]
    for task in report["tasks"]:
        why = f": {task['why']}" if task["why"] else ""
        lines.append(f"  {task['result']:8} {task['name']} ({task['seconds']:.0f} s){why}")
        lines += [f"           {note}" for note in task["notes"]]
    if report["changes"]:
        lines.append(f"since {report['previous']}:")
        lines += [f"  {one['task']}: {_changed(one)}" for one in report["changes"]]
    return "\n".join(lines)


def to_html(report: Mapping[str, Any]) -> str:
    """One page without scripts; everything in it is escaped."""
    rows = "".join(_row(task) for task in report["tasks"])
    changes = "".join(f"<li>{escape(one['task'])}: {escape(_changed(one))}</li>" for one in report["changes"])
    since = f"<h2>Changed since {escape(str(report['previous']))}</h2><ul>{changes}</ul>" if changes else ""
    title = escape(f"{report['schedule']} maintenance {report['run']}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{escape(report['summary'])}</p><p>{escape(report['began_at'])}, {report['seconds']:.0f} s</p>"
        '<table><thead><tr><th scope="col">Task</th><th scope="col">Result</th><th scope="col">Seconds</th>'
        f'<th scope="col">Found</th></tr></thead><tbody>{rows}</tbody></table>{since}</body></html>\n'
    )


_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;"
    "padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;"
    "padding:.4rem .6rem;border-bottom:1px solid #8884}td:last-child{overflow-wrap:anywhere}"
    "ul{margin:0;padding-left:1.2rem}"
)


def _row(task: Mapping[str, Any]) -> str:
    lines = [task["why"]] if task["why"] else []
    lines += [*task["notes"], *(f"{what}: {_number(value)}" for what, value in task["measures"].items())]
    found = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    cells = (escape(task["name"]), escape(task["result"]), f"{task['seconds']:.0f}", f"<ul>{found}</ul>")
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _changed(one: Mapping[str, Any]) -> str:
    before, now = one["before"], one["now"]
    by = ""
    if isinstance(before, int | float) and isinstance(now, int | float) and before:
        by = f" ({(now - before) / abs(before):+.0%})"
    return f"{one['what']}: {_number(before)} → {_number(now)}{by}"


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,}"
    return "none" if value is None else str(value)
