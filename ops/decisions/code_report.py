"""Whether the report of the code's checks lets a release pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ops.decisions.report import digest_of

LABEL = "runbook.report"
"""Label of an image with the digest of the report that it was built after."""
_LEAST = 7


def is_of(commit: str, git: str) -> bool:
    """Whether the two name one commit; either may be abbreviated."""
    return min(len(commit), len(git)) >= _LEAST and (commit.startswith(git) or git.startswith(commit))


def find_report(reports: Iterable[Mapping[str, Any]], git: str) -> Mapping[str, Any] | None:
    """The newest report of the commit."""
    found = [item for item in reports if is_of(str(item.get("commit") or ""), git)]
    return max(found, key=lambda item: str(item.get("at")), default=None)


def explain_refusal(report: Mapping[str, Any] | None, git: str, label: str | None) -> str | None:
    """Why a release of this commit is refused; None when its report is good."""
    if report is None:
        return f"there is no report of commit {git}"
    if report.get("digest") != digest_of(report):
        return f"the report of commit {git} was changed after it was made"
    if report.get("result") != "passed":
        failed = [line["title"] for line in report.get("lines", ()) if line["result"] == "fail"]
        return f"the report of commit {git} is red: {', '.join(failed)}"
    if report.get("changed"):
        return f"the report of commit {git} is of a checkout with changes that are not in the commit"
    if not label:
        return f"the image does not name its report: build it with --label {LABEL}={report['digest']}"
    if label != report["digest"]:
        return f"the image was built after another report ({LABEL} is {label}, not {report['digest']})"
    return None
