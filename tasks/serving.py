"""The HTTP endpoints of a long-running task: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(host: str, port: int, metrics: Callable[[], str | None]) -> ThreadingHTTPServer:
    """Answers in the background until it is shut down. Not ready while there are no metrics yet."""
    server = ThreadingHTTPServer((host, port), _handler(metrics))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _handler(metrics: Callable[[], str | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # An idle client must not block a thread forever.
        timeout = 10

        def do_GET(self) -> None:
            text = metrics()
            answers = {"/healthz": (200, "ok\n"), "/readyz": (200 if text else 503, "ready\n" if text else "reading\n")}
            answers["/metrics"] = (200, text or "")
            status, body = answers.get(self.path.partition("?")[0], (404, "there is /metrics, /healthz, /readyz\n"))
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """No log: scrapes are regular."""

    return Handler
