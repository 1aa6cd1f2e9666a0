"""A report of checks, line by line: as JSON and as a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

Result = Literal["pass", "fail", "left out"]


@dataclass(frozen=True)
class Line:
    """One line of a report."""

    name: str
    title: str
    result: Result
    evidence: str
    """What was found; of a line that is left out, the reason."""
    remedy: str | None = None
    """What to do about a failure."""
    limit: str | None = None
    """What was allowed, where that is a number."""


@dataclass(frozen=True)
class Report:
    """What was checked, when, and which operator asked."""

    kind: str
    """`go-live`, or `check`."""
    subject: Mapping[str, Any]
    """What it is about: stack, revision, image, commit."""
    by: str
    at: str
    seconds: float
    lines: Sequence[Line] = field(default=())

    @property
    def passed(self) -> bool:
        """No line failed, and one at least was tried."""
        results = [line.result for line in self.lines]
        return "fail" not in results and "pass" in results

    def to_json(self) -> dict[str, Any]:
        """The report; `digest` is the SHA-256 of everything else in it."""
        made = {
            "kind": self.kind,
            **self.subject,
            "by": self.by,
            "at": self.at,
            "seconds": self.seconds,
            "result": "passed" if self.passed else "failed",
            "signedOff": {"by": self.by, "at": self.at} if self.passed else None,
            "lines": [vars(line) for line in self.lines],
        }
        return {**made, "digest": digest_of(made)}

    def to_html(self) -> str:
        """A page without scripts or anything from elsewhere."""
        made = self.to_json()
        word = "passed" if self.passed else "FAILED"
        about = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>"
            for key, value in {**self.subject, "at": self.at, "by": self.by, "digest": made["digest"]}.items()
            if value is not None
        )
        rows = "".join(
            f'<tr class="{line.result.replace(" ", "-")}"><td>{escape(line.title)}</td><td>{line.result}</td>'
            f"<td>{escape(line.evidence)}</td><td>{escape(line.limit or '')}</td>"
            f"<td>{escape(line.remedy or '')}</td></tr>"
            for line in self.lines
        )
        signed = f"Signed off by {escape(self.by)}, {escape(self.at)}." if self.passed else "Not signed off."
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(self.kind)}: {word}</title>'
            f"<style>{_STYLE}</style><h1>{escape(self.kind)}: {word}</h1><table>{about}</table>"
            "<table><tr><th>Line</th><th>Result</th><th>Evidence</th><th>Limit</th><th>Remedy</th></tr>"
            f"{rows}</table><p>{signed}</p></html>\n"
        )


_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin-bottom:1em}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
    ".fail td:nth-child(2){background:#fbb}.pass td:nth-child(2){background:#bfb}.left-out{color:#777}"
)


def digest_of(report: Mapping[str, Any]) -> str:
    """The SHA-256 of a report without its own digest."""
    rest = {key: value for key, value in report.items() if key != "digest"}
    return f"sha256:{hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}"
