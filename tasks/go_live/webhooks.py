"""Webhooks: the application accepts an event that the provider's secret signed, and refuses another signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tasks.go_live.line import Line
from tasks.http_check import ingress_headers
from tasks.reach import SECONDS, NotThere


def check_webhooks(line: Line, settings: Mapping[str, Any]) -> None:
    webhooks: Sequence[Mapping[str, Any]] = settings["webhooks"]
    key, headers = settings.get("key"), ingress_headers(line.environment)
    line.variables([*([key] if key else ()), *(webhook["secret"] for webhook in webhooks)])
    if key and settings["live"]:
        line.step("key", lambda: _require_live(line.environment.required(key, "sk_live_…"), key))
    for webhook in webhooks:
        path, secret = webhook["path"], line.environment.required(webhook["secret"], "whsec_…")
        name, target = f"signed event to {path}", webhook["target"]
        line.request(name, target, lambda w=webhook, s=secret: _accepted(_send(w, s, headers)))
        wrong = f"whsec_{secrets.token_hex(16)}"
        line.step(f"wrong signature to {path}", lambda w=webhook, s=wrong: _refused(_send(w, s, headers)))


def _require_live(value: str, name: str) -> str:
    if "_test_" in value[:12]:
        raise NotThere(f"{name} is a key of test mode: no payment would be charged")
    return "not a key of test mode"


def _send(webhook: Mapping[str, Any], secret: str, more: Mapping[str, str]) -> httpx.Response:
    now = int(time.time())
    event = {
        "id": f"evt_runbook_{secrets.token_hex(8)}",
        "object": "event",
        "type": "runbook.go_live",
        "created": now,
        "livemode": False,
        "data": {"object": {}},
        **webhook["event"],
    }
    body = json.dumps(event)
    digest = hmac.new(secret.encode(), webhook["signed"].format(time=now, body=body).encode(), hashlib.sha256)
    signature = base64.b64encode(digest.digest()).decode() if webhook["encoding"] == "base64" else digest.hexdigest()
    headers = {
        "Content-Type": "application/json",
        webhook["header"]: webhook["signature"].format(time=now, signature=signature),
        **more,
    }
    with httpx.Client(timeout=SECONDS, trust_env=False) as client:
        return client.post(f"{webhook['target']}{webhook['path']}", headers=headers, content=body)


def _accepted(answer: httpx.Response) -> str:
    if not answer.is_success:
        raise NotThere(f"answered {answer.status_code}, not 2xx")
    return f"accepted ({answer.status_code})"


def _refused(answer: httpx.Response) -> str:
    if not answer.is_client_error or answer.status_code in (404, 405, 429):
        raise NotThere(f"answered {answer.status_code}: an event that the provider did not sign is not refused")
    return f"refused ({answer.status_code})"
