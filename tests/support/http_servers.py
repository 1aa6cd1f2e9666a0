"""HTTP servers of the tests, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Prints nothing; a test adds the methods."""

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer_json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer(status, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})

    def answer_metrics(self, lines: str) -> None:
        self.answer(200, lines, {"Content-Type": "text/plain; version=0.0.4"})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the console."""


class Server(ThreadingHTTPServer):
    """Takes connections that come all at once: of more than five, a busy machine drops some."""

    request_queue_size = 128


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler], after: float = 0) -> Iterator[int]:
    """Serves at a free port until the block ends; its number. `after`: refuses connections for so many seconds."""
    with closing_server(Server(("127.0.0.1", 0), handler, bind_and_activate=False), after) as bound:
        yield bound


@contextmanager
def closing_server(server: ThreadingHTTPServer, after: float = 0) -> Iterator[int]:
    """Serves until the block ends; its port. `after`: of one that was not activated, it refuses so many seconds."""
    if server.server_address[1] == 0:
        server.server_bind()
        if not after:
            server.server_activate()

    def serve() -> None:
        if after:
            server.server_activate()
        server.serve_forever(poll_interval=0.05)

    thread = threading.Timer(after, serve)
    thread.daemon = True
    thread.start()
    with closing(server.socket):
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
