"""Whether a release serves: its Deployments are settled on its image, and the health report is good."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from ops.adapters.host_names import find_address
from ops.decisions.health_checks import answers_well
from ops.stack.stack_context import StackContext
from settings import Release

_SETTLE_SECONDS = 60
_ANSWER_SECONDS = 15
_MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Health:
    """The application's health report; `status` is None when there was no answer."""

    status: int | None
    detail: str
    checks: tuple[Mapping[str, Any], ...] = ()
    """The parts of the report, if it has any (HerbisVeritas "Health Checks Automatiques": `checks`)."""

    @property
    def bad(self) -> bool:
        """It answered, with a failure. No answer proves nothing: this machine may have no route to the address."""
        return self.status is not None and not answers_well(self.status)


def read_health(url: str, path: str) -> Health:
    """The report at `path` below the customers' URL, through redirects (an ingress that wants https)."""
    address = f"{url}{path}"
    try:
        with httpx.Client(timeout=5, verify=trusted_authorities()) as client:
            answer = _get(client, address)
            for _ in range(_MOST_REDIRECTS):
                if not answer.has_redirect_location:
                    break
                address = urljoin(address, answer.headers["Location"])
                answer = _get(client, address)
    except (httpx.HTTPError, OSError) as error:
        return Health(None, str(error) or type(error).__name__)
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    detail = str(body.get("status", "")) if isinstance(body, dict) else ""
    if answer.status_code == 503 and detail == "lockdown":
        return Health(None, "the lockdown does not admit this machine")
    listed = body.get("checks") if isinstance(body, dict) else None
    checks = tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()
    return Health(answer.status_code, detail or answer.reason_phrase, checks)


def _get(client: httpx.Client, url: str) -> httpx.Response:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if (address := find_address(host)) == host:
        return client.get(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    here = parts._replace(netloc=f"{address}:{port}").geturl()
    return client.get(here, headers={"Host": parts.netloc}, extensions={"sni_hostname": host})


def trusted_authorities() -> ssl.SSLContext:
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
    backend = facts.settings.application.main_service
    expected = backend.image or release.image
    ran = next((rollout.image for rollout in rollouts if rollout.service == backend.name), None)
    if ran != expected:
        return f"{backend.name} runs {ran or 'nothing'}, not {expected}."
    if not isinstance(url, str):
        return None
    path = facts.settings.health_path
    answer = read_health(url, path)
    deadline = time.monotonic() + _ANSWER_SECONDS
    while answer.bad and time.monotonic() < deadline:
        time.sleep(0.2)  # the ingress needs a moment to route to the pods, and reports nothing
        answer = read_health(url, path)
    return f"{url}{path} answers {answer.status} {answer.detail}" if answer.bad else None
