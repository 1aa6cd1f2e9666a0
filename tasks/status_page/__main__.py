"""Serves the status page: `python3 -m tasks.status_page`.

Environment: STATUS_PAGE, the page's own text as JSON; PUBLISHED, the file with what was published, which may be
missing; PORT. Nothing else is read, and nothing is called: the page is there while the shop and its database are not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tasks.status_page.files import render_files
from tasks.status_page.page import SECURITY_POLICY


class StatusPage:
    """The page's files. They are rendered again when something was published, and each minute."""

    def __init__(self, site: str, published: Path) -> None:
        self._site, self._published = site, published

    def read(self, path: str) -> tuple[str, bytes] | None:
        """Content type and content of a path; None where there is no such page."""
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        return _render(self._site, self._read_published(), now).get(path.partition("?")[0].removeprefix("/"))

    def _read_published(self) -> str | None:
        try:
            return self._published.read_text()
        except FileNotFoundError:
            return None


@lru_cache(maxsize=2)
def _render(site: str, published: str | None, now: datetime) -> dict[str, tuple[str, bytes]]:
    files = render_files(json.loads(site), json.loads(published) if published else None, now)
    return {**files, "": files["index.html"]}


class Server(ThreadingHTTPServer):
    """During an incident many look at once. The kernel drops connections beyond this number of waiting ones, which is
    5 without it."""

    request_queue_size = 1024


def make_server(port: int, page: StatusPage) -> Server:
    class Answer(BaseHTTPRequestHandler):
        # An idle client must not block a thread forever.
        timeout = 30

        def do_GET(self) -> None:
            found = page.read(self.path)
            kind, body = found or ("text/plain; charset=utf-8", b"There is no such page.\n")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "public, max-age=30")
            self.send_header("Content-Security-Policy", SECURITY_POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """No log: the ingress controller logs requests."""

    return Server(("", port), Answer)


def main() -> int:
    page = StatusPage(os.environ["STATUS_PAGE"], Path(os.environ["PUBLISHED"]))
    server = make_server(int(os.environ.get("PORT", "8080")), page)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
