"""Alerts. A webhook is only a hint: Alertmanager's API has to confirm that the alert fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx


class Malformed(ValueError):
    """A body that is not Alertmanager's."""


class Unreachable(Exception):
    """Alertmanager does not answer: it is unknown whether the alert fires."""


@dataclass(frozen=True)
class Hint:
    """An alert as named in a webhook."""

    fingerprint: str
    starts_at: datetime

    @property
    def key(self) -> str:
        """Identifies one firing of one alert; a later firing has another key."""
        return f"{self.fingerprint}@{self.starts_at:%Y-%m-%dT%H:%M:%S.%f}"

    @classmethod
    def from_key(cls, key: str) -> Hint:
        """The firing that a `key` identifies."""
        fingerprint, _, starts_at = key.rpartition("@")
        return cls(fingerprint, datetime.fromisoformat(starts_at).replace(tzinfo=UTC))


@dataclass(frozen=True)
class Alert:
    """A firing alert, as returned by Alertmanager."""

    hint: Hint
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "?")

    @property
    def action(self) -> str:
        return self.labels.get("action", "")

    @property
    def namespace(self) -> str:
        return self.labels.get("namespace", "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "fingerprint": self.hint.fingerprint,
            "startsAt": self.hint.starts_at.isoformat(),
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Alert:
        return cls(_hint(saved), saved["labels"], saved["annotations"])


def hints(body: Any) -> list[Hint]:
    """The firing alerts of a webhook (Alertmanager's version 4), resolved ones left out."""
    if not isinstance(body, dict) or not isinstance(alerts := body.get("alerts"), list):
        raise Malformed("no list of alerts")
    return [_hint(alert) for alert in alerts if not isinstance(alert, dict) or alert.get("status") == "firing"]


def _hint(alert: Any) -> Hint:
    try:
        fingerprint, starts_at = alert["fingerprint"], _moment(alert["startsAt"])
    except (KeyError, TypeError, ValueError):
        raise Malformed("an alert without fingerprint and startsAt") from None
    if not isinstance(fingerprint, str):
        raise Malformed("an alert whose fingerprint is not a string")
    return Hint(fingerprint, starts_at)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without time zone")
    # Alertmanager's API returns milliseconds, its webhooks send nanoseconds.
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


class AlertSource(Protocol):
    """Confirms that an alert fires."""

    def firing(self, hint: Hint) -> Alert | None: ...


class Alertmanager:
    """Client of Alertmanager's API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=5)

    def firing(self, hint: Hint) -> Alert | None:
        """The alert, if it really fires now and began when the hint says."""
        return _found(hint, self._active())

    def _active(self) -> Sequence[Mapping[str, Any]]:
        parameters = {"active": "true", "silenced": "false", "inhibited": "false"}
        try:
            return self._http.get("/api/v2/alerts", params=parameters).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None


def _found(hint: Hint, active: Sequence[Mapping[str, Any]]) -> Alert | None:
    for found in active:
        known = _hint(found)
        if known == hint:
            return Alert(known, found["labels"], found.get("annotations") or {})
    return None
