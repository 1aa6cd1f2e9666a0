"""What Alertmanager says: a webhook is only a hint, so that Alertmanager itself is asked whether it is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx


class Malformed(ValueError):
    """A body that no Alertmanager sends."""


class Unreachable(Exception):
    """Alertmanager does not answer: whether the alert fires is not known."""


@dataclass(frozen=True)
class Hint:
    """An alert as a webhook names it."""

    fingerprint: str
    starts_at: datetime

    @property
    def key(self) -> str:
        """One firing of one alert; when it fires again later, it is another."""
        return f"{self.fingerprint}@{self.starts_at:%Y-%m-%dT%H:%M:%S.%f}"


@dataclass(frozen=True)
class Alert:
    """An alert that fires, in Alertmanager's own words."""

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
    def from_dict(cls, told: Mapping[str, Any]) -> Alert:
        return cls(_hint(told), told["labels"], told["annotations"])


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
        raise Malformed("an alert whose fingerprint is no text")
    return Hint(fingerprint, starts_at)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without time zone")
    # Alertmanager's API tells milliseconds, its webhooks nanoseconds.
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


class Alertmanager:
    """Asked by its API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=5)

    def firing(self, hint: Hint) -> Alert | None:
        """The alert, if it really fires now and began when the hint says."""
        return _found(hint, self._active())

    def _active(self) -> Sequence[Mapping[str, Any]]:
        asked = {"active": "true", "silenced": "false", "inhibited": "false"}
        try:
            return self._http.get("/api/v2/alerts", params=asked).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None


def _found(hint: Hint, active: Sequence[Mapping[str, Any]]) -> Alert | None:
    for told in active:
        known = _hint(told)
        if known == hint:
            return Alert(known, told["labels"], told.get("annotations") or {})
    return None
