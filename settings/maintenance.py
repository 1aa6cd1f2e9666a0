"""Maintenance mode (HerbisVeritas "Emergency Commands": `maintenance:enable`, `maintenance:disable`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from settings.base import Settings
from settings.containers import resources

MAINTENANCE = "runbook:maintenance"
PAGE_RESOURCES = resources("10m", "32Mi", "8Mi", limits=("200m", "64Mi", "32Mi"))
"""Of each pod that shows the page."""


class Maintenance(Settings):
    """Customers get a page with status 503. The services' pods keep running and are monitored."""

    reason: Annotated[str, Field(min_length=1, examples=["restore of the database"])]
    """Why. For the team: customers are not shown it."""
    stops_writers: Annotated[Literal[True] | None, Field(examples=[True])] = None
    """Written by a restore in place of SQLite: the pods that have the file open are stopped meanwhile, because they
    would go on in the old one."""
    retry_after_seconds: Annotated[int, Field(ge=1, le=86400)] = 120
    """How long clients should wait (`Retry-After`)."""
