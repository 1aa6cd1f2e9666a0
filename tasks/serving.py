"""The HTTP endpoints of a long-running task: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from http.server import ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CollectorRegistry, Metric, MetricsHandler


class Source(Protocol):
    """What a task measures."""

    @property
    def ready(self) -> bool:
        """False until the first reading."""
        ...

    def collect(self) -> Iterable[Metric]: ...


def serve(host: str, port: int, source: Source) -> ThreadingHTTPServer:
    """Answers in the background until it is shut down."""
    server = ThreadingHTTPServer((host, port), _handler(source))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _handler(source: Source) -> type[MetricsHandler]:
    exposed = CollectorRegistry()
    exposed.register(source)

    class Handler(MetricsHandler):
        registry = exposed
        # An idle client must not block a thread forever.
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                return super().do_GET()
            answers = {"/healthz": (200, "ok\n"), "/readyz": (200, "ready\n") if source.ready else (503, "reading\n")}
            status, body = answers.get(path, (404, "there is /metrics, /healthz, /readyz\n"))
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())
            return None

    return Handler
