"""Checks before a release (runbook-de-production §1): of the environment, by `runbook check` and `runbook deploy`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from settings.base import Settings

LINES = {
    "nodes": "Nodes ready",
    "pressure": "Disk, memory and process pressure",
    "room": "Room for the surge on nodes",
    "quota": "Room for the surge in the quota",
    "claims": "Volume claims",
    "image": "Image",
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
    "dns",
    "certificate",
    "secrets",
    "database",
    "clock",
]


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
