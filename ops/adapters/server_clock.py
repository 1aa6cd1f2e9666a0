"""The API server's time. A machine of an operator may be minutes off; what a command writes is compared with the clocks
of the cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from ops.errors import Refused


@dataclass(frozen=True)
class ServerClock:
    """The server's time when it was read, and how long ago that was."""

    at: datetime
    read: float
    """`time.monotonic()` then."""

    @classmethod
    def ask(cls, http: httpx.Client) -> ServerClock:
        """Ask the API server."""
        return cls.of_answer(http.get("/version").headers)

    @classmethod
    def of_answer(cls, headers: Mapping[str, str]) -> ServerClock:
        """From the header `Date` of an answer that has just come."""
        date = headers.get("date")
        try:
            at = parsedate_to_datetime(date or "")
        except ValueError:
            raise Refused(
                f"The API server's answer has {f'the date {date!r}' if date else 'no header Date'}: the time in the "
                "cluster is unknown. Does a proxy in front of it remove the header? Nothing was changed."
            ) from None
        return cls(at.astimezone(UTC), time.monotonic())

    def now(self) -> datetime:
        return self.at + timedelta(seconds=time.monotonic() - self.read)
