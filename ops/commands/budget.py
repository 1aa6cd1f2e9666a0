"""`runbook status --budget`: how long an automatic rollback takes at most, from trigger to healthy.

The numbers are the settings' own; how long a pod takes to start is measured on the pods that run (HerbisVeritas
"Rollback Automatique (90 secondes)").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.cli.formatting import print_table
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings, require_application
from settings import StackSettings
from settings.budget import rollback_budget
from settings.monitoring import Monitoring


def read_budget(session: Session) -> dict[str, Any]:
    """The worst case and its parts; without a running pod, with the start-up time of the settings."""
    require_application(session, "roll back")
    settings = load_settings(session.file)
    try:
        cluster = session.cluster(settings, stack_file.read(session.file).config)
        started = cluster.startup_seconds(settings.application.services)
    except Refused as why:
        session.say(f"Start-up time as in the settings: {why}")
        started = None
    return list_parts(settings, started)


def list_parts(settings: StackSettings, startup_seconds: float | None) -> dict[str, Any]:
    """Without `runbook:monitoring`, what its defaults would come to."""
    monitoring = settings.monitoring or Monitoring()
    found = rollback_budget(monitoring, settings.application, startup_seconds)
    return {
        "rollbackSeconds": found.total,
        "limitSeconds": found.limit,
        "kept": found.kept,
        "startupSeconds": monitoring.rollback.startup_seconds if startup_seconds is None else startup_seconds,
        "startupMeasured": startup_seconds is not None,
        "parts": [vars(part) for part in found.parts],
        "windows": dict(found.windows),
    }


def print_budget(found: Mapping[str, Any]) -> None:
    rows = [(part["name"], f"{part['seconds']:g} s", part["why"]) for part in found["parts"]]
    total = (f"limit {found['limitSeconds']:g} s", "start-up time " + _origin(found))
    print_table(("PART", "AT MOST", "WHY"), [*rows, ("total", f"{found['rollbackSeconds']:g} s", "; ".join(total))])
    print()
    print_table(("TRIGGER", "SEES IT FOR"), [(name, f"{seconds:g} s") for name, seconds in found["windows"].items()])


def _origin(found: Mapping[str, Any]) -> str:
    if found["startupMeasured"]:
        return "measured on the pods that run"
    return "as in runbook:monitoring.rollback.startupSeconds"
