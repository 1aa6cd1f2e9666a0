"""Reads what a cause is made of from the API server, within a bounded time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from ops.causes.text import LINES, Masker

_REQUEST_SECONDS = 3.0
_LOG_BYTES = 256 * 1024
_EVENT_BYTES = 1024
"""The API server's limit for an event's message: what fills it was cut."""
_EVENTS = 5


class TimeIsUp(Exception):
    """The time for requests is over."""


class Api:
    """One namespace's objects, logs and events. An answer other than success counts as not found."""

    def __init__(self, http: httpx.Client, masker: Masker, seconds: float) -> None:
        self._http, self._deadline = http, time.monotonic() + seconds
        self.masker = masker

    def get(self, path: str, **selection: str) -> Mapping[str, Any] | None:
        answer = self._http.get(path, params=selection, timeout=self._left())
        return answer.json() if answer.is_success else None

    def list(self, path: str, **selection: str) -> list[Mapping[str, Any]]:
        return list((self.get(path, **selection) or {}).get("items") or ())

    def learn_secrets(self, namespace: str) -> None:
        """What must be masked in the namespace's logs and events."""
        found = self.get(f"/api/v1/namespaces/{namespace}/secrets")
        if found is None:
            self.masker.blind = True
        else:
            self.masker.learn(found.get("items") or ())

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> list[str]:
        """A container's last lines, masked; none where they cannot be masked."""
        if self.masker.blind:
            return []
        parameters = {"container": container, "tailLines": str(LINES)} | ({"previous": "true"} if previous else {})
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        with self._http.stream("GET", path, params=parameters, timeout=self._left()) as answer:
            if not answer.is_success:
                return []
            text, cut, late = bytearray(), False, False
            for part in answer.iter_bytes(65536):
                text += part
                if len(text) > _LOG_BYTES:
                    # A line of megabytes: keep its end.
                    del text[: len(text) - _LOG_BYTES]
                    cut = True
                if late := time.monotonic() > self._deadline:
                    break
        return self.masker.lines(bytes(text), cut_start=cut, cut_end=late)

    def warnings(self, namespace: str, *uids: str) -> list[str]:
        """The latest warnings about these objects, the newest first."""
        found = [event for uid in uids for event in self._events(namespace, uid)]
        found.sort(key=_moment, reverse=True)
        return list(dict.fromkeys(self._describe(event) for event in found))[:_EVENTS]

    def message(self, namespace: str, uid: str, *reasons: str) -> str:
        """What the newest event with one of these reasons says of an object; of any kind, not only warnings."""
        found = [event for event in self._events(namespace, uid, kind="") if event.get("reason") in reasons]
        return max(found, key=_moment, default={}).get("message") or ""

    def _events(self, namespace: str, uid: str, kind: str = "Warning") -> list[Mapping[str, Any]]:
        selection = f"involvedObject.uid={uid}" + (f",type={kind}" if kind else "")
        return self.list(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selection)

    def _describe(self, event: Mapping[str, Any]) -> str:
        count = event.get("count") or (event.get("series") or {}).get("count") or 1
        times = f" ({count} times)" if count > 1 else ""
        if self.masker.blind:
            return f"{event.get('reason')}{times}"
        message = event.get("message") or ""
        cut = len(message.encode()) >= _EVENT_BYTES - 3
        return f"{event.get('reason')}{times}: {self.masker.line(message, cut_end=cut)}"

    def _left(self) -> httpx.Timeout:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeIsUp
        return httpx.Timeout(min(left, _REQUEST_SECONDS))


def _moment(event: Mapping[str, Any]) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("eventTime") or ""


def selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
