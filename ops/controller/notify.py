"""Notifications: Slack, and the pod's log as JSON lines."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from ops.controller.metrics import Metrics


def log(event: str, **facts: Any) -> None:
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"at": moment, "event": event, **facts}), file=sys.stderr, flush=True)


class Slack:
    """The channel for critical alerts. A failed message is counted and not retried."""

    def __init__(self, webhook: Path, counts: Metrics) -> None:
        self._webhook, self._counts = webhook, counts

    def send(self, text: str) -> None:
        try:
            httpx.post(
                self._webhook.read_text().strip(), json={"text": text, "link_names": 1}, timeout=5
            ).raise_for_status()
        except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            # Not the error's message: it contains the address, which is a secret.
            self._counts.slack_failed()
            log("sending to slack failed", error=type(error).__name__)
