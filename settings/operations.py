"""What the quick reference needs to know of a shop (HerbisVeritas "Quick Reference Commands")."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from settings.base import EnvName, Finding, Seconds, Settings
from settings.commands import Command

OPERATIONS = "runbook:operations"
TOOLBOX = "operations"
"""The suspended CronJob from which `runbook` makes the Jobs of these commands."""
TASK, COMMAND = "task", "command"
"""Its containers: a task of the project's own image, and a command in the release's."""
DEBUG = "debug"
"""Group of its tasks."""
PARAMETERS = ("since", "until", "step")
"""What a query of `metrics` is given: `:since` and `:until` are times, `:step` is the width of a point in the plot."""
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
_TEXT = re.compile(
    r"--[^\n]*|/\*.*?\*/|(?P<tag>\$\w*\$).*?(?P=tag)|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"[^\"]*\"", re.DOTALL
)
"""Comments, strings and quoted names of SQL: no parameter is in them."""
_USER = "{user}"
_FIELD = r"^[^.\s]+(\.[^.\s]+)*$"
_QUERY = (
    "SELECT date_bin(:step, created_at, :since) AS time, count(*) AS orders FROM orders "
    "WHERE created_at >= :since AND created_at < :until GROUP BY 1"
)


class Metric(Settings):
    """A business metric: SQL that is run read-only, on the application's database."""

    query: Annotated[str, Field(min_length=1, examples=[_QUERY])]
    """Its first column is a time, each other one a number: a line of the plot, named as the column. `:since` and
    `:until` are the times asked for, `:step` the width of a point."""
    unit: Annotated[str, Field(max_length=20, examples=["EUR"])] = ""
    """Unit of the numbers."""
    total: bool = True
    """Whether the points add up, and a period without a row is 0 (orders, revenue). Otherwise their mean is shown, and
    a period without a row is missing (a percentage)."""

    def _findings(self) -> list[Finding]:
        bare = _TEXT.sub("''", self.query)
        unknown = sorted(set(_PARAMETER.findall(bare)) - set(PARAMETERS))
        if unknown:
            names = ", ".join(f":{name}" for name in PARAMETERS)
            return [Finding(("query",), f":{unknown[0]} is no parameter; there are {names}", _QUERY)]
        if ":since" not in bare:
            return [Finding(("query",), "does not use :since, so that it reads all rows of all time", _QUERY)]
        return []


class RateLimits(Settings):
    """Where the application keeps what a user has used of a limit: keys of Redis, or a command that prints it."""

    keys: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(examples=[["ratelimit:*:{user}"]])] = ()
    """Patterns of Redis keys (`*` and `?` as in SCAN); `{user}` is the user asked for."""
    url: EnvName = "REDIS_URL"
    """Variable with the URL of Redis."""
    command: Annotated[Command | None, Field(examples=[{"run": "npm run ratelimit:show -- {user}"}])] = None
    """Command of the release that prints it; `{user}` is the user asked for, as one word."""

    def _findings(self) -> list[Finding]:
        if bool(self.keys) == bool(self.command):
            why = "write either patterns of Redis keys or a command"
            return [Finding(("keys",), why, ["ratelimit:*:{user}"])]
        for index, key in enumerate(self.keys):
            if _USER not in key:
                return [Finding(("keys", index), f"has no {_USER}: it would show the limits of all", f"{key}:{_USER}")]
        if self.command and not any(_USER in line for line in self.command.run):
            return [Finding(("command", "run"), f"has no {_USER}", f"{self.command.run[0]} {_USER}")]
        return []


class RequestLog(Settings):
    """Names of the fields of the application's JSON log line about a request; `a.b` is the field `b` in `a`."""

    status: Annotated[str, Field(pattern=_FIELD)] = "status"
    """Status of the answer."""
    source: Annotated[str, Field(pattern=_FIELD)] = "ip"
    """Address of the client. Requests whose lines have no such field count together."""
    route: Annotated[str, Field(pattern=_FIELD)] = "route"
    """Route or path."""


class Emergency(Settings):
    """What an emergency command runs in the release's image, with the application's environment."""

    about: Annotated[str, Field(min_length=1, examples=["turns recommendations and search suggestions off"])]
    """What it does; shown before it is confirmed."""
    command: Command
    """Command lines."""
    undo: Command | None = None
    """Command lines that take it back. Without them there is nothing to take back."""


class Operations(Settings):
    """The quick reference."""

    metrics: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")], Metric],
        Field(examples=[{"business": {"query": _QUERY}}]),
    ] = {}
    """Business metrics by name; the runbook's are `business`, `conversion` and `revenue`."""
    query_seconds: Seconds = 30
    """Seconds after which a query of `runbook metrics` or `runbook debug database` is cancelled."""
    slow_query_ms: Annotated[int, Field(ge=1, le=600_000)] = 100
    """Milliseconds on average from which `runbook debug database` calls a query slow."""
    rate_limits: RateLimits | None = None
    """Limits per user. Without it, `runbook debug rate-limiting` is refused."""
    request_log: RequestLog = RequestLog()
    """Fields of the log lines that `runbook debug security` counts."""
    cache_clear: Emergency | None = None
    """`runbook performance emergency-cache-clear`. Without it: `commands.cache`, which purges and warms the caches."""
    optimization: Emergency | None = None
    """`runbook performance emergency-optimization`. Without it, that command is refused."""
