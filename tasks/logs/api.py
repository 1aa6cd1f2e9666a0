"""The Kubernetes API server, as far as logs need it: streams of lines, asked for with a token that is read anew."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tasks.environment import Environment
from tasks.logs.lines import Splitter

SILENCE_SECONDS = 60
"""A stream that says nothing for so long is opened anew: perhaps nobody is at its other end any more."""
_IDENTITY = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Unavailable(Exception):
    """It did not answer as it should. `status` is its answer, or 0."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Quiet(Exception):
    """Nothing came for a while."""


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
            # Neither a proxy nor a redirect is to see the token.
            trust_env=False,
        )

    async def read(self, path: str, asked: Mapping[str, str]) -> bytes:
        """The whole answer."""
        async with self._answer(path, asked) as answer:
            return await answer.aread()

    @asynccontextmanager
    async def opened(
        self, path: str, asked: Mapping[str, str], longest: int
    ) -> AsyncIterator[AsyncIterator[tuple[bytes, bool]]]:
        """Each line as it comes, and whether that is all of it, until the server ends the stream."""
        async with self._answer(path, asked) as answer:
            yield _lines(answer, longest)

    @asynccontextmanager
    async def _answer(self, path: str, asked: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream("GET", path, params=dict(asked)) as answer:
                if answer.status_code != 200:
                    raise Unavailable(answer.status_code, f"it answered {answer.status_code}")
                yield answer
        except httpx.ReadTimeout:
            raise Quiet from None
        except httpx.HTTPError as error:
            # What the other side sent may be in the message.
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
