"""The cluster's API server, for what the provider does not do. Asked by hooks only: the program itself reads its stack
file and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SECONDS = 10


class Unknown(Exception):
    """The API server does not answer, or refuses to."""


@dataclass(frozen=True)
class ApiServer:
    """That of the kubeconfig's context."""

    context: str | None
    """None: the kubeconfig's current context."""

    def get(self, path: str) -> Mapping[str, Any] | None:
        """An object, or None."""
        return self._call("GET", path)

    def merge(self, path: str, patch: Mapping[str, Any]) -> None:
        """Change an object by a JSON merge patch."""
        if self._call("PATCH", path, patch) is None:
            raise Unknown(f"{path} does not exist")

    def _call(self, method: str, path: str, patch: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
        # Imported only here: an update rarely needs it, and each update would start later.
        import httpx
        from lightkube import KubeConfig
        from lightkube.config.client_adapter import Client, ConnectionParams
        from lightkube.core.exceptions import ConfigError

        headers = {"Content-Type": "application/merge-patch+json"} if patch is not None else {}
        try:
            found = KubeConfig.from_env().get(context_name=self.context)
            if found is None:
                raise ConfigError("the kubeconfig has no current context")
            with Client(found, ConnectionParams(timeout=httpx.Timeout(_SECONDS))) as http:
                answer = http.request(method, path, json=patch, headers=headers)
        except (ConfigError, OSError, httpx.HTTPError) as error:
            raise Unknown(f"{error or type(error).__name__}") from None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise Unknown(f"the API server refuses {method} {path} ({answer.status_code})")
        return answer.json()
