"""Is the release really serving: its Deployments settled on the right image, and the health report good."""

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
    """What the application says of itself; `status` None when it could not be asked."""

    status: int | None
    detail: str

    @property
    def bad(self) -> bool:
        """It answered, and not well. No answer at all is no proof: this machine may not reach the address."""
        return self.status not in (None, 200)


def ask(url: str) -> Health:
    address, headers = _reached(url)
    try:
        answer = httpx.get(f"{address}{HEALTH_PATH}", headers=headers, timeout=5, verify=_trusted())
    except (httpx.HTTPError, OSError) as error:
        return Health(None, str(error) or type(error).__name__)
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    detail = str(body.get("status", "")) if isinstance(body, dict) else ""
    if answer.status_code == 503 and detail == "lockdown":
        return Health(None, "the lockdown lets nobody from here in")
    return Health(answer.status_code, detail or answer.reason_phrase)


def _reached(url: str) -> tuple[str, dict[str, str]]:
    """Names under `.localhost` are this machine (RFC 6761), though not every resolver knows it."""
    parts = urlsplit(url)
    if not (parts.hostname or "").endswith(".localhost"):
        return url, {}
    return parts._replace(netloc=f"127.0.0.1:{parts.port or 80}").geturl(), {"Host": parts.netloc}


def _trusted() -> ssl.SSLContext:
    """The usual authorities, and the one in RUNBOOK_CA_FILE: an internal one, or the sandbox's."""
    context = ssl.create_default_context()
    if extra := os.environ.get("RUNBOOK_CA_FILE"):
        context.load_verify_locations(extra)
    return context


def verify(facts: StackContext, release: Release, url: Any) -> str | None:
    """What is still wrong after a rollback, or None."""
    services = facts.settings.application.services
    rollouts = facts.cluster.settle(services, _SETTLE_SECONDS)
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
    answer = ask(url)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while answer.bad and time.monotonic() < deadline:
        time.sleep(0.2)  # the ingress takes a moment to see the pods; nothing tells when
        answer = ask(url)
    return f"{url}{HEALTH_PATH} answers {answer.status} {answer.detail}" if answer.bad else None
