"""Whether a release serves: its Deployments are settled on its image, and the health report is good."""

from __future__ import annotations

import os
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from ops.stack.stack_context import StackContext
from settings import Release
from settings.monitoring import HEALTH_PATH

_SETTLE_SECONDS = 60
_ANSWER_SECONDS = 15


@dataclass(frozen=True)
class Health:
    """The application's health report; `status` is None when there was no answer."""

    status: int | None
    detail: str

    @property
    def bad(self) -> bool:
        """It answered, with a failure. No answer proves nothing: this machine may have no route to the address."""
        return self.status not in (None, 200)


def read_health(url: str) -> Health:
    address, headers = _resolve_localhost(url)
    try:
        answer = httpx.get(f"{address}{HEALTH_PATH}", headers=headers, timeout=5, verify=_ssl_context())
    except (httpx.HTTPError, OSError) as error:
        return Health(None, str(error) or type(error).__name__)
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    detail = str(body.get("status", "")) if isinstance(body, dict) else ""
    if answer.status_code == 503 and detail == "lockdown":
        return Health(None, "the lockdown does not admit this machine")
    return Health(answer.status_code, detail or answer.reason_phrase)


def _resolve_localhost(url: str) -> tuple[str, dict[str, str]]:
    """Names under `.localhost` are this machine (RFC 6761), which not every resolver implements."""
    parts = urlsplit(url)
    if not (parts.hostname or "").endswith(".localhost"):
        return url, {}
    return parts._replace(netloc=f"127.0.0.1:{parts.port or 80}").geturl(), {"Host": parts.netloc}


def _ssl_context() -> ssl.SSLContext:
    """Trusts the system's authorities and the one in RUNBOOK_CA_FILE (an internal one, or the sandbox's)."""
    context = ssl.create_default_context()
    if extra := os.environ.get("RUNBOOK_CA_FILE"):
        context.load_verify_locations(extra)
    return context


def verify(facts: StackContext, release: Release, url: Any) -> str | None:
    """The problem after a rollback, or None."""
    services = facts.settings.application.services
    rollouts = facts.cluster.await_settled(services, _SETTLE_SECONDS)
    for rollout in rollouts:
        if not rollout.settled:
            ready = f"only {rollout.ready} of {rollout.wanted} pods are ready"
            return f"{rollout.service}: {ready} on the new template."
    backend = services[0]
    expected = backend.image or release.image
    ran = next((rollout.image for rollout in rollouts if rollout.service == backend.name), None)
    if ran != expected:
        return f"{backend.name} runs {ran or 'nothing'}, not {expected}."
    if not isinstance(url, str):
        return None
    answer = read_health(url)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while answer.bad and time.monotonic() < deadline:
        time.sleep(0.2)  # the ingress needs a moment to route to the pods, and reports nothing
        answer = read_health(url)
    return f"{url}{HEALTH_PATH} answers {answer.status} {answer.detail}" if answer.bad else None
