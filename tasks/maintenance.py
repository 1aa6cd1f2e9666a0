"""The page that customers get under maintenance (HerbisVeritas "Emergency Commands").

Environment: RETRY_AFTER_SECONDS, how long clients should wait; PORT, where the page is; PROBE_PORT, where the
kubelet asks whether this server is alive. The two are apart so that no path of the page answers 200.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Back soon</title></head>
<body><h1>Back soon</h1><p>We are working on the shop and will be back shortly.</p></body></html>
"""


class Server(ThreadingHTTPServer):
    """Customers come all at once. The kernel drops connections beyond this number of waiting ones, which is 5 without
    it; a dropped one is tried again after a second or longer."""

    request_queue_size = 1024


def server(port: int, status: int, retry_after: int | None) -> Server:
    """Answers every request with this status; `retry_after` in seconds."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An idle client must not block a thread forever.
        timeout = 30

        def _answer(self) -> None:
            wants_json = "text/html" not in self.headers.get("Accept", "")
            body = (json.dumps({"status": "maintenance"}) if wants_json else PAGE).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if wants_json else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            # The request's body is not read, so the connection is closed: the body would be parsed as the next request.
            self.send_header("Connection", "close")
            if retry_after is not None:
                self.send_header("Retry-After", str(retry_after))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

        def log_message(self, format: str, *args: object) -> None:
            """No log: the ingress controller logs requests."""

    return Server(("", port), Answer)


def main() -> int:
    wait = os.environ.get("RETRY_AFTER_SECONDS", "")
    if not wait.isdigit():
        print(f"RETRY_AFTER_SECONDS={wait!r}: write a whole number of seconds, such as 120", file=sys.stderr)
        return 2
    servers = [
        server(int(os.environ.get("PORT", "8080")), 503, int(wait)),
        server(int(os.environ.get("PROBE_PORT", "8081")), 200, None),
    ]
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    for one in servers:
        threading.Thread(target=one.serve_forever, daemon=True).start()
    done.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
