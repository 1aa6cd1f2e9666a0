"""Checks before a release (runbook-de-production §1): of the environment, by `runbook check` and `runbook deploy`, and
of the code, by `runbook check-code`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from settings.base import DnsLabel, Finding, Settings
from settings.commands import Command

LINES = {
    "nodes": "Nodes ready",
    "pressure": "Disk, memory and process pressure",
    "room": "Room for the surge on nodes",
    "quota": "Room for the surge in the quota",
    "claims": "Volume claims",
    "image": "Image",
    "pull": "Image on the nodes",
    "dns": "DNS",
    "certificate": "TLS certificate",
    "secrets": "Secrets",
    "database": "Database",
    "clock": "Clock",
}
"""The lines, in order, and their titles."""
Line = Literal[
    "nodes",
    "pressure",
    "room",
    "quota",
    "claims",
    "image",
    "pull",
    "dns",
    "certificate",
    "secrets",
    "database",
    "clock",
]


class CodeStep(Command):
    """A step of the checks of the code, such as lint."""

    given_in_part = False

    name: DnsLabel
    """Name of the step."""
    after: tuple[DnsLabel, ...] = ()
    """Steps that must have passed before; steps without a common one run side by side."""
    cache: bool = True
    """Whether a step that passed is left out while the code is the same. Not for what asks others, such as an audit of
    dependencies."""
    outputs: Annotated[tuple[str, ...], Field(examples=[["backend/dist"]])] = ()
    """Paths that it makes: if one is missing, it runs although it passed before."""


class CodeChecks(Settings):
    """The checks of the code (runbook-de-production §1; HerbisVeritas "Checklist Pré-Déploiement")."""

    steps: tuple[CodeStep, ...] = ()
    """Default: one step, which is runbook:commands.check."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Most steps that run at a time."""
    reports: Annotated[str, Field(min_length=1)] = "reports"
    """Folder of the reports, seen from the stack file's."""
    required: bool = False
    """Whether `runbook deploy` refuses a release without a report of its commit in which every step passed."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        seen: set[str] = set()
        for index, step in enumerate(self.steps):
            if step.name in seen:
                found.append(Finding(("steps", index, "name"), f"{step.name} is already the name of another step"))
            if unknown := [name for name in step.after if name not in seen]:
                why = f"no step above has this name: {', '.join(unknown)}"
                found.append(Finding(("steps", index, "after"), why, [name for name in step.after if name in seen]))
            seen.add(step.name)
        return found


class Checks(Settings):
    """Limits of the environment. With this key, `runbook deploy` refuses a release when a line fails."""

    without: Annotated[
        dict[Line, Annotated[str, Field(min_length=1)]],
        Field(examples=[{"room": "the cluster adds nodes when pods wait"}]),
    ] = {}
    """Lines that are left out, and why; reports say so."""
    ready_nodes_percent: Annotated[int, Field(ge=1, le=100)] = 75
    """Least part of the nodes that are ready."""
    certificate_days: Annotated[int, Field(ge=1, le=365)] = 14
    """Days that the customers' certificate must still be valid for."""
    clock_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """Most difference between this machine's clock and the API server's."""
    pull_seconds: Annotated[int, Field(ge=5, le=3600)] = 180
    """Seconds that `runbook check --pull` waits for nodes that pull the image."""
    code: CodeChecks = CodeChecks()
    """The checks of the code, on a checkout."""
