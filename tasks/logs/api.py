"""Client of the Kubernetes API server: streams of lines, with a token that is read for each request."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tasks.environment import Environment
from tasks.logs.lines import Splitter

SILENCE_SECONDS = 60
"""A stream without data for so long is opened again: the connection may be broken."""
_IDENTITY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Unavailable(Exception):
    """The API server did not answer with success. `status` is its answer, or 0."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Quiet(Exception):
    """A stream brought no data for a while."""


class Api:
    """LOGS_API_URL (https, and where the cluster says its API server is), LOGS_IDENTITY (the pod's own)."""

    def __init__(self, environment: Environment, silence_seconds: float = SILENCE_SECONDS) -> None:
        identity = Path(environment.text("LOGS_IDENTITY") or _IDENTITY)
        url = environment.text("LOGS_API_URL")
        if url is None:
            host = environment.required("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            port = environment.integer("KUBERNETES_SERVICE_PORT", least=1) or 443
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        authority = identity / "ca.crt"
        self._client = httpx.AsyncClient(
            base_url=url,
            auth=_Token(identity / "token"),
            verify=ssl.create_default_context(cafile=str(authority) if authority.exists() else None),
            # Compressed lines would wait in a buffer.
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(10, read=silence_seconds, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=2),
            # The token must not reach a proxy or the target of a redirect.
            trust_env=False,
        )

    async def read(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The whole answer."""
        async with self._answer(path, parameters) as answer:
            return await answer.aread()

    @asynccontextmanager
    async def opened(
        self, path: str, parameters: Mapping[str, str], longest: int
    ) -> AsyncIterator[AsyncIterator[tuple[bytes, bool]]]:
        """Each line as it comes, and whether that is all of it, until the server ends the stream."""
        async with self._answer(path, parameters) as answer:
            yield _lines(answer, longest)

    @asynccontextmanager
    async def _answer(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream("GET", path, params=dict(parameters)) as answer:
                if answer.status_code != 200:
                    raise Unavailable(answer.status_code, f"it answered {answer.status_code}")
                yield answer
        except httpx.ReadTimeout:
            raise Quiet from None
        except httpx.HTTPError as error:
            # The message may contain what the server sent.
            raise Unavailable(0, type(error).__name__) from None

    async def close(self) -> None:
        await self._client.aclose()


async def _lines(answer: httpx.Response, longest: int) -> AsyncIterator[tuple[bytes, bool]]:
    splitter = Splitter(longest)
    async for chunk in answer.aiter_raw():
        for line in splitter.feed(chunk):
            yield line


class _Token(httpx.Auth):
    """The cluster replaces it about every hour."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._file.exists():
            request.headers["Authorization"] = f"Bearer {self._file.read_text().strip()}"
        yield request
