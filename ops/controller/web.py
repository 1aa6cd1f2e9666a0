"""HTTP server: Alertmanager's webhook, health checks and metrics."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import MetricsHandler

from ops.controller.alerts import Alert, AlertSource, Hint, Malformed, Unreachable, hints
from ops.controller.metrics import Metrics
from ops.controller.notify import log

_LONGEST = 1_000_000
"""Largest body of a webhook, in bytes: Alertmanager's have some thousand."""


class Inbox(Protocol):
    """Handles alerts."""

    def known(self, key: str) -> bool: ...
    def put(self, alert: Alert) -> None: ...


class Webhook:
    """Handles one request: returns the status and the outcome of each alert."""

    def __init__(self, token: Path, alertmanager: AlertSource, inbox: Inbox, counts: Metrics) -> None:
        self._token, self._alertmanager, self._inbox, self._counts = token, alertmanager, inbox, counts

    def receive(self, authorization: str, body: bytes) -> tuple[HTTPStatus, dict[str, Any]]:
        if not self._known(authorization):
            return self._refused(HTTPStatus.UNAUTHORIZED, "unauthorized")
        try:
            received = hints(json.loads(body))
        except (Malformed, ValueError):
            return self._refused(HTTPStatus.BAD_REQUEST, "malformed")
        try:
            outcomes = [self._one(hint) for hint in received]
        except Unreachable as error:
            log("alertmanager does not answer", error=str(error))
            return self._refused(HTTPStatus.SERVICE_UNAVAILABLE, "unverified")
        refused = bool(outcomes) and all(outcome == "not-firing" for outcome in outcomes)
        return HTTPStatus.FORBIDDEN if refused else HTTPStatus.OK, {"alerts": outcomes}

    def _known(self, authorization: str) -> bool:
        # Read each time: the token may change while this runs.
        wanted = f"Bearer {self._token.read_text().strip()}"
        return hmac.compare_digest(authorization.encode(), wanted.encode())

    def _refused(self, status: HTTPStatus, reason: str) -> tuple[HTTPStatus, dict[str, Any]]:
        self._counts.refused(reason)
        log("webhook refused", reason=reason)
        return status, {"refused": reason}

    def _one(self, hint: Hint) -> str:
        if self._inbox.known(hint.key):
            self._counts.alert("repeated")
            return "repeated"
        alert = self._alertmanager.firing(hint)
        if alert is None:
            # Forged, replayed, or resolved in the meantime.
            self._counts.refused("not-firing")
            log("alert refused: it does not fire", fingerprint=hint.fingerprint, startsAt=hint.starts_at.isoformat())
            return "not-firing"
        if self._inbox.known(alert.hint.key):
            self._counts.alert("repeated")
            return "repeated"
        self._counts.alert("accepted")
        self._inbox.put(alert)
        return "accepted"


def server(
    port: int, webhook: Webhook, counts: Metrics, healthy: Callable[[], bool], ready: Callable[[], bool]
) -> ThreadingHTTPServer:
    class Handler(MetricsHandler):
        registry = counts.registry
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if self.path != "/alerts":
                self._answer(HTTPStatus.NOT_FOUND, b"")
            elif not length.isdigit() or int(length) > _LONGEST:
                counts.refused("malformed")
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"")
            elif not ready():
                # Alertmanager retries.
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
            else:
                status, outcome = webhook.receive(self.headers.get("Authorization", ""), self.rfile.read(int(length)))
                self._answer(status, json.dumps(outcome).encode() + b"\n", "application/json")

        def do_GET(self) -> None:
            checks = {"/healthz": healthy, "/readyz": ready}
            if check := checks.get(self.path):
                well = check()
                self._answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, b"ok\n" if well else b"no\n")
            elif self.path == "/metrics":
                super().do_GET()
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    made = ThreadingHTTPServer(("", port), Handler)
    made.daemon_threads = True
    return made
