"""The virus scanner: clamd answers, lets a clean file pass and finds the EICAR test file."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tasks.environment import Environment
from tasks.go_live.line import Line
from tasks.reach import SECONDS, NotThere

_PORT = 3310
_MOST = 65536
_CLEAN = b"A file without anything in it that a scanner should find.\n"
# In pieces: a scanner that reads this repository or our image would find it.
_PIECES = ("X5O!P%@AP[4", "\\PZX54(P^)", "7CC)7}$EI", "CAR-STAND", "ARD-ANTIV", "IRUS-TEST", "-FILE!$H+H*")


def check_clamav(line: Line, settings: Mapping[str, Any]) -> None:
    line.variables([settings["host"]])
    found: list[tuple[str, int]] = []
    line.step("address", lambda: found.append(_address(line.environment, settings)) or "readable")
    (address,) = found
    line.connect(*address)
    line.step("PING", lambda: _expect(_send(address, b"zPING\0"), "PONG"))
    line.step("clean file", lambda: _expect(_scan(address, _CLEAN), "stream: OK"))
    line.step("EICAR", lambda: _expect(_scan(address, "".join(_PIECES).encode()), "FOUND", last=True))


def _address(environment: Environment, settings: Mapping[str, Any]) -> tuple[str, int]:
    """Of a host, `host:port`, or a URL such as tcp://host:3310; a variable of its own for the port decides."""
    text = environment.required(settings["host"], "clamav")
    port = environment.integer(settings["port"], least=1)
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        host, own = parts.hostname, parts.port
    except ValueError:
        host, own = None, None
    if not host:
        raise NotThere(f"{settings['host']} is no host name, nor host:port: a socket in a file is in no other pod")
    return host, port or own or _PORT


def _scan(address: tuple[str, int], content: bytes) -> str:
    return _send(address, b"zINSTREAM\0" + struct.pack("!I", len(content)) + content + struct.pack("!I", 0))


def _send(address: tuple[str, int], request: bytes) -> str:
    with closing(socket.create_connection(address, timeout=SECONDS)) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"\0") and len(answer) < _MOST and (part := connection.recv(4096)):
            answer += part
    return answer.rstrip(b"\0").decode(errors="replace")


def _expect(answer: str, wanted: str, *, last: bool = False) -> str:
    if not (answer.endswith(wanted) if last else answer == wanted):
        raise NotThere(f"clamd answered {answer!r}, not {wanted}")
    return answer
