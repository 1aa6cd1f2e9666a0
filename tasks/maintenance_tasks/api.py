"""What a run reads at the Kubernetes API server: the Lease of commands, and the nodes' images.

API_URL (https, and where the cluster says its API server is) and API_IDENTITY (the folder with this pod's token and the
server's authority). API_NAMESPACE is the stack's.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from tasks.environment import Environment
from tasks.errors import TaskError

_IDENTITY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 10
_ALIVE_SECONDS = 30
"""Without a renewal for so long a Lease is free (ops/stack/command_lock.py)."""


class Api:
    """The API server, with this pod's rights."""

    def __init__(self, environment: Environment) -> None:
        self._identity = Path(environment.text("API_IDENTITY") or _IDENTITY)
        self._namespace = environment.required("API_NAMESPACE", "shop")
        url = environment.text("API_URL")
        if url is None:
            host = environment.required("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            port = environment.integer("KUBERNETES_SERVICE_PORT", least=1) or 443
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        authority = self._identity / "ca.crt"
        self._client = httpx.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=str(authority) if authority.exists() else None),
            timeout=_SECONDS,
            # The token must not reach a proxy.
            trust_env=False,
        )

    def find_command(self, lease: str) -> str | None:
        """Who changes the stack now; None when no command does."""
        answer = self._get(f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{lease}")
        if answer is None:
            return None
        found, now = answer
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder:
            return None
        renewed = datetime.fromisoformat(spec.get("renewTime") or "1970-01-01T00:00:00+00:00")
        if (now - renewed).total_seconds() > _ALIVE_SECONDS:
            return None
        return f"a command of {str(holder).partition('/')[0]} changes the stack"

    def list_nodes(self) -> list[Mapping[str, Any]]:
        """Every node as the API server has it."""
        answer = self._get("/api/v1/nodes")
        return list(answer[0]["items"]) if answer else []

    def _get(self, path: str) -> tuple[dict[str, Any], datetime] | None:
        """The answer and the server's time; None for 404."""
        token = self._identity / "token"
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.exists() else {}
        try:
            answer = self._client.get(path, headers=headers)
        except httpx.HTTPError as error:
            raise TaskError(
                "api_unreachable",
                f"the API server cannot be reached ({type(error).__name__}): check maintenanceTasks.apiServer",
            ) from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise TaskError("api_refused", f"the API server answered {answer.status_code} to {path}")
        stamp = answer.headers.get("Date")
        return answer.json(), parsedate_to_datetime(stamp) if stamp else datetime.now(UTC)
