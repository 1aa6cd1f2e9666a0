"""Security events in log lines (Runbook de Production §6: winston; HerbisVeritas "Alertes Critiques":
SECURITY_INCIDENT), for an application that logs them and has no metric of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated

from pydantic import Field

from settings.base import Finding, Settings
from settings.containers import Resources, resources
from settings.platform import Egress

SQL_INJECTION, REFUSED_LOGIN, REFUSED_WEBHOOK = "sql_injection", "refused_login", "refused_webhook"
EVENTS = (SQL_INJECTION, REFUSED_LOGIN, REFUSED_WEBHOOK)
"""Events that alerts query; values of the label `event`."""
_EXAMPLE = r"(?i)sql.?injection"


class LogEvent(Settings):
    """Log lines that are events: JSON objects in which a field matches a pattern."""

    field: Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", examples=["event"])] = "event"
    """Name of the field; `a.b` is also the field `b` of the object in `a`."""
    pattern: Annotated[str, Field(examples=[_EXAMPLE])]
    """Regular expression (Python's) searched for in the field's value; `^` and `$` anchor it. Only the first 4096
    characters of a value are searched."""
    source: Annotated[str | None, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", examples=["ip"])] = None
    """Name of the field with the client's address, so that events count for each source: the label `source` is one of
    32 groups, by a hash of the address. Without it, all clients count together."""

    def _findings(self) -> list[Finding]:
        try:
            pattern = re.compile(self.pattern)
        except re.error as error:
            why = f"is no regular expression: {error}; in single quotes, YAML keeps backslashes"
            return [Finding(("pattern",), why, _EXAMPLE)]
        if pattern.search("") is not None:
            return [Finding(("pattern",), "matches an empty text, and so every line", _EXAMPLE)]
        return []


class Logs(Settings):
    """The log counter: one pod whose ServiceAccount may list this namespace's pods and read their logs, and nothing
    else. Alerts use its counts where the application has no such metric."""

    api_server: Annotated[
        tuple[Egress, ...], Field(min_length=1, examples=[[{"cidr": "10.0.0.1/32", "ports": [6443]}]])
    ]
    """Addresses of the cluster's API server, for the network policies: its own, not the Service's."""
    events: Annotated[
        Mapping[str, LogEvent], Field(min_length=1, json_schema_extra={"propertyNames": {"enum": list(EVENTS)}})
    ] = {name: LogEvent(pattern=f"^{name}$") for name in EVENTS}
    """Events: `sql_injection` (alert SqlInjection), `refused_login` (LoginsRefused) and `refused_webhook`
    (WebhooksForged). The default is a field `event` with the event's own name."""
    silent_seconds: Annotated[int, Field(ge=60, le=86_400)] = 600
    """Seconds in which a pod that serves may log nothing. At level info, health checks and scrapes are logged all
    the time; with `LOG_LEVEL: warn` a quiet day is normal, so this must be longer."""
    resources: Resources = resources("20m", "64Mi", "16Mi", limits=("500m", "192Mi", "64Mi"))
    """CPU, memory and scratch disk."""

    def _findings(self) -> list[Finding]:
        found: list[Finding] = []
        for name in self.events:
            if name not in EVENTS:
                meant = get_close_matches(name, EVENTS, n=1)
                hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(EVENTS)}"
                found.append(Finding(("events", name), f"no alert uses this event: {hint}"))
        return found
