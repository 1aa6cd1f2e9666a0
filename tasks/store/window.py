"""A store behind HTTP: for a pod that must not reach the store itself, because it also runs a release.

`serve` runs in the exporter's pod, with the store's credentials and its network policy; `WindowStore` is its client. It
can read everything, add records and attempts of restore tests, reports of maintenance and results of page checks, end
attempts and delete such reports and results: no backup can be changed or removed.
"""

from __future__ import annotations

import hmac
import http.client
import io
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NoReturn, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tasks.errors import Refused, TaskError
from tasks.progress import say
from tasks.reach import keep_trying
from tasks.store.base import Entry, Exists, Missing, Sink, Store

_ADDED = ("evidence/", "attempts/", "maintenance/", "pages/")
_ENDED = ("attempts/", "maintenance/", "pages/")
_MOST_BYTES = 1 << 20
"""Of a record."""
_CHUNK = 1 << 20
_SECONDS = 120
_CONNECT_SECONDS, _RETRY_SECONDS = 60, 0.5


class WindowStore(Store):
    """The client: a store of which most is read-only."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token

    def prepare(self) -> None:
        self._refuse()

    @contextmanager
    def upload(self, key: str, expected: int = 0) -> Iterator[Sink]:  # noqa: ARG002
        self._refuse()
        yield  # type: ignore[unreachable] - it makes this a generator

    def put(self, key: str, data: bytes, *, new: bool = False, keep: bool = True) -> None:
        if len(data) > _MOST_BYTES:
            raise Refused("store_denied", f"{key}: a record has at most {_MOST_BYTES} bytes")
        with self._asked("PUT", key, data, new=str(int(new)), keep=str(int(keep))):
            pass

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        with self._asked("GET", key) as answer:
            yield cast(BinaryIO, io.BufferedReader(_Whole(self.url, key, answer), _CHUNK))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        with self._asked("GET", prefix, list="1") as answer:
            rows = json.loads(answer.read())
        for key, size, modified in rows:
            yield Entry(key, size, datetime.fromisoformat(modified))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self._asked("DELETE", key):
                pass

    def clear_unfinished(self, prefix: str = "") -> int:  # noqa: ARG002
        self._refuse()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def _refuse(self) -> NoReturn:
        raise Refused(
            "store_denied",
            f"{self.url}: a restore test or a maintenance run may read backups and write its result, no more",
        )

    @contextmanager
    def _asked(
        self, method: str, key: str, body: bytes | None = None, **how: str
    ) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_SECONDS)
        query = "&".join(f"{name}={value}" for name, value in how.items())
        try:
            target = f"/{quote(key)}" + (f"?{query}" if query else "")
            keep_trying(connection.connect, _CONNECT_SECONDS)
            connection.request(method, target, body, {"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            if answer.status >= 400:
                self._raise(answer, key)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise TaskError("store_unreachable", f"{self.url} could not give {key or 'a list'}: {error}") from error
        finally:
            connection.close()

    def _raise(self, answer: http.client.HTTPResponse, key: str) -> NoReturn:
        if answer.status == 404:
            raise Missing(self.url, key)
        if answer.status == 409:
            raise Exists(self.url, key)
        try:
            said = json.loads(answer.read())
            code, message = str(said["code"]), str(said["message"])
        except (ValueError, KeyError, TypeError):
            code, message = "store_failed", f"{self.url} answered {answer.status}"
        raise TaskError(code, message)


class _Whole(io.RawIOBase):
    """The bytes of an answer; an end before all of them came is an error."""

    def __init__(self, url: str, key: str, answer: http.client.HTTPResponse) -> None:
        self._url, self._key, self._answer = url, key, answer
        self._left = int(answer.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._left:
            return 0
        data = self._answer.read(min(len(buffer), self._left))
        if not data:
            raise TaskError("store_unreachable", f"{self._url} ended in the middle of {self._key}; run the test again")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def serve(store: Store, host: str, port: int, token: str) -> ThreadingHTTPServer:
    """Answers in the background until it is shut down."""
    server = ThreadingHTTPServer((host, port), _handler(store, f"Bearer {token}".encode()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _handler(store: Store, allowed: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS

        def do_GET(self) -> None:
            with self._answering() as asked:
                if asked is None:
                    return
                key, how = asked
                if "list" in how:
                    rows = [(entry.key, entry.size, entry.modified.isoformat()) for entry in store.entries(key)]
                    self._send(200, json.dumps(rows).encode())
                    return
                size = next((entry.size for entry in store.entries(key) if entry.key == key), None)
                if size is None:
                    raise Missing(store.url, key)
                with store.open(key) as stream:
                    self._begin(200, size)
                    left = size
                    while left and (piece := stream.read(min(_CHUNK, left))):
                        self.wfile.write(piece)
                        left -= len(piece)

        def do_PUT(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(size) if size <= _MOST_BYTES else None
            with self._answering(*_ADDED) as asked:
                if asked is None:
                    return
                if data is None:
                    raise Refused("store_denied", f"a record has at most {_MOST_BYTES} bytes")
                key, how = asked
                # A record is never replaced; an attempt is, by the process that began it.
                new = how.get("new") == ["1"] or key.startswith("evidence/")
                store.put(key, data, new=new, keep=how.get("keep") != ["0"])
                self._send(200, b"")

        def do_DELETE(self) -> None:
            with self._answering(*_ENDED) as asked:
                if asked is not None:
                    store.delete([asked[0]])
                    self._send(200, b"")

        @contextmanager
        def _answering(self, *prefixes: str) -> Iterator[tuple[str, dict[str, list[str]]] | None]:
            """The key that is asked for; None, answered, if it may not be. Answers errors of the store."""
            parts = urlsplit(self.path)
            key = unquote(parts.path.removeprefix("/"))
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), allowed):
                self._fail(403, "store_denied", "the token is wrong")
                yield None
            elif ".." in key.split("/") or (prefixes and not key.startswith(prefixes)):
                self._fail(403, "store_denied", f"a pod with this token may not do this with {key}")
                yield None
            else:
                try:
                    yield key, parse_qs(parts.query)
                except Missing as error:
                    self._fail(404, error.code, str(error))
                except Exists as error:
                    self._fail(409, error.code, str(error))
                except TaskError as error:
                    say(f"warning: {error}")
                    self._fail(502, error.code, str(error))

        def _fail(self, status: int, code: str, message: str) -> None:
            self._send(status, json.dumps({"code": code, "message": message}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self._begin(status, len(body))
            self.wfile.write(body)

        def _begin(self, status: int, size: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """No log: the store's errors are said above."""

    return Handler
