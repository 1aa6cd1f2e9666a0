"""`python -m tasks reach URL`: wait until a server accepts connections. A restarting server refuses them for a moment,
and so does the network of a new pod until its policies are in place. Standard library only: it starts quickly."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.result import Result

SECONDS = 10
"""For a connection, and for the whole wait."""
_RETRY_SECONDS = 0.3


class NotThere(TaskError):
    """Something that a check needs is missing or does not answer."""

    def __init__(self, why: str) -> None:
        super().__init__("not_there", why)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="http://service:port")
    parser.set_defaults(run=_reach)


def _reach(arguments: argparse.Namespace, _environment: Environment) -> Result:
    found = reach(arguments.url)
    return Result({"reached": arguments.url}, found)


def reach(url: str) -> str:
    """Wait until the server of this URL accepts connections."""
    parts = urlsplit(url)
    return connect(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def connect(host: str, port: int) -> str:
    """Wait until a server accepts connections; `NotThere` after ten seconds, or if there is no such host."""

    def begin() -> None:
        with closing(socket.create_connection((host, port), timeout=SECONDS)):
            pass

    try:
        keep_trying(begin, SECONDS)
    except OSError as error:
        raise NotThere(f"{host}:{port} cannot be reached: {error}") from None
    return f"{host}:{port} accepts connections"


def keep_trying(begin: Callable[[], object], seconds: float) -> None:
    """Connect, again while it fails; the last error after so many seconds, or at once if there is no such host.

    A server that restarts refuses connections. Until its policies are in place, so does the network of a new pod, those
    to DNS too.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            begin()
            return
        except OSError as error:
            # What DNS has answered does not change by waiting.
            unknown = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
            if unknown or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_SECONDS)
