"""Whether a release is to blame for a failed update. One that is not is rolled back, but not quarantined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.adapters.automation import Failed
    from ops.causes.cause import Cause

_RELEASE = ("runbook:release:", "runbook:rotation:Verification", "runbook:rotation:PreviousVerification")
_RUNS_IT = (":Deployment", ":Job", ":Command")
"""Types of what runs the release's image."""


def find_excuse(failed: Sequence[Failed], causes: Sequence[Cause]) -> str | None:
    """Why nothing that failed is the release's fault; None when something is, or may be."""
    excuses = [_excuse(each, causes) for each in failed]
    return excuses[0] if excuses and all(excuses) else None


def _excuse(failed: Failed, causes: Sequence[Cause]) -> str | None:
    parents = failed.urn.split("::", 3)[2]
    kind = failed.type.rsplit(":", 1)[-1]
    name = f"{kind} {(failed.inputs.get('metadata') or {}).get('name')}"
    part = any(component in parents for component in _RELEASE)
    if "runbook:" in parents and not (part and failed.type.endswith(_RUNS_IT)):
        return f"{name} runs nothing of it"
    cause = next((cause for cause in causes if cause.object == name), None)
    return cause.line if cause and cause.outside else None
