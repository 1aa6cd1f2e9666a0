"""Receives what Slack and the dead man's switch would: `slack.py ADDRESS PORT`.

Prints each message with its channel, as `python -m sandbox logs slack` shows it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SWITCH = "/dead-mans-switch"
_SILENT_SECONDS = 180
"""The alert that always fires comes every minute."""


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == SWITCH:
            alive.set()
        else:
            try:
                text = format_message(json.loads(body))
            except ValueError:
                self.send_error(400, "invalid_payload")
                return
            say(f"#{self.path.strip('/')}: {text}")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged, messages are."""


def format_message(message: dict[str, Any]) -> str:
    """What a person would read in the channel."""
    parts = [message.get("text", "")]
    for attachment in message.get("attachments", []):
        parts += [attachment.get(field, "") for field in ("pretext", "title", "text")]
    return "\n    ".join(line for part in parts for line in part.splitlines() if line.strip())


def watch_switch() -> None:
    """Say when the alert that always fires stops coming, and when it comes again."""
    while True:
        alive.wait()
        say("dead man's switch: Alertmanager is alive")
        while alive.is_set():
            alive.clear()
            alive.wait(_SILENT_SECONDS)
        say(f"dead man's switch: nothing received from Alertmanager for {_SILENT_SECONDS} s")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


alive = threading.Event()

if __name__ == "__main__":
    threading.Thread(target=watch_switch, daemon=True).start()
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()
