"""Reports of dependency audits: `npm audit --json` and `pip-audit --format json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks.errors import TaskError
from tasks.maintenance_tasks.context import Outcome

SEVERITIES = ("low", "moderate", "high", "critical")
"""In ascending order. npm also has `info`, which is none."""
_SHOWN = 50


def parse(kind: str, text: str, fail_on: str | None, *, exit_code: int) -> Outcome:
    """What was found; `report_invalid` if it is no such report."""
    try:
        report = json.loads(text)
    except ValueError:
        raise TaskError(
            "report_invalid", f"it printed no JSON (exit code {exit_code}): the log of container `application` has it"
        ) from None
    return _npm(report, fail_on) if kind == "npm-audit" else _pip(report, fail_on)


def _npm(report: Any, fail_on: str | None) -> Outcome:
    if not isinstance(report, Mapping) or not isinstance(report.get("vulnerabilities"), Mapping):
        why = report.get("error") if isinstance(report, Mapping) else None
        summary = str(why.get("summary") or why.get("code")) if isinstance(why, Mapping) else "no `vulnerabilities`"
        raise TaskError("report_invalid", f"npm audit could not audit: {summary}")
    found = [
        (str(one.get("severity")), str(name), _npm_fix(one.get("fixAvailable")))
        for name, one in report["vulnerabilities"].items()
        if one.get("severity") in SEVERITIES
    ]
    found.sort(key=lambda one: (-SEVERITIES.index(one[0]), one[1]))
    counts = {severity: sum(one[0] == severity for one in found) for severity in SEVERITIES}
    notes = [f"{severity}: {name} ({fix})" for severity, name, fix in found]
    bad = SEVERITIES[SEVERITIES.index(fail_on) :] if fail_on else ()
    failing = sum(counts[severity] for severity in bad)
    return Outcome(
        notes=_cut(notes),
        measures={f"{severity} vulnerabilities": count for severity, count in counts.items()},
        failure=f"{failing} vulnerable packages of severity {fail_on} or higher" if failing else None,
    )


def _npm_fix(fix: Any) -> str:
    if isinstance(fix, Mapping):
        breaking = ", a breaking change" if fix.get("isSemVerMajor") else ""
        return f"{fix.get('name')} {fix.get('version')} fixes it{breaking}"
    return "an update fixes it" if fix else "no fix yet"


def _pip(report: Any, fail_on: str | None) -> Outcome:
    packages = report.get("dependencies") if isinstance(report, Mapping) else report
    if not isinstance(packages, list):
        raise TaskError("report_invalid", "pip-audit printed no `dependencies`")
    notes: list[str] = []
    for package in packages:
        for one in package.get("vulns") or ():
            fixed = ", ".join(one.get("fix_versions") or ()) or "no version yet"
            notes.append(f"{package.get('name')} {package.get('version')}: {one.get('id')} (fixed in {fixed})")
    unread = [str(one.get("name")) for one in packages if one.get("skip_reason")]
    more = [f"not audited: {', '.join(unread[:_SHOWN])}"] if unread else []
    return Outcome(
        notes=[*_cut(sorted(notes)), *more],
        measures={"vulnerabilities": len(notes), "packages not audited": len(unread)},
        failure=f"{len(notes)} vulnerabilities" if notes and fail_on else None,
    )


def _cut(notes: list[str]) -> list[str]:
    return notes if len(notes) <= _SHOWN else [*notes[:_SHOWN], f"and {len(notes) - _SHOWN} more"]
