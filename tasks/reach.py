"""`python -m tasks reach URL`: wait until a server accepts connections. A restarting server refuses them for a moment,
and so does the network of a new pod until its policies are in place. Standard library only: it starts quickly."""

from __future__ import annotations

import argparse
import socket
import time
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
    """Wait until a server accepts connections; `NotThere` after ten seconds, or if there is no such host.

    Until its policies are in place, a new pod reaches no DNS server either, and routers between may refuse its packets.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with closing(socket.create_connection((host, port), timeout=SECONDS)):
                return f"{host}:{port} accepts connections"
        except OSError as error:
            if is_unknown_host(error) or time.monotonic() > deadline:
                raise NotThere(f"{host}:{port} cannot be reached: {error}") from None
        time.sleep(_RETRY_SECONDS)


def is_unknown_host(error: OSError) -> bool:
    """Whether DNS has answered that there is no such host, which waiting does not change."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
