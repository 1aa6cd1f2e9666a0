"""The loopback ports by which the host reaches the node."""

from __future__ import annotations

import dataclasses
import json
import socket
from dataclasses import dataclass

from sandbox.cluster import layout
from sandbox.ui import SandboxError


@dataclass(frozen=True)
class Ports:
    """Where an address must mean the same inside the node and outside, it is the same number there."""

    api: int = 16443
    registry: int = 15000
    http: int = 18080
    https: int = 18443
    s3: int = 18333
    prometheus: int = 19090
    alertmanager: int = 19093


def read_recorded() -> Ports | None:
    """What an earlier `up` chose."""
    try:
        return Ports(**json.loads(layout.PORTS.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise SandboxError(f"{layout.PORTS}: {error}. Remove the file and run this again.") from error


def choose() -> Ports:
    """Ports for a node that is about to start: the recorded ones, unless something else took them."""
    wanted = read_recorded() or Ports()
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for field in dataclasses.fields(Ports):
        port = getattr(wanted, field.name)
        while port in taken or not _is_free(port):
            port += 1
        taken.add(port)
        chosen[field.name] = port
    ports = Ports(**chosen)
    layout.PORTS.write_text(json.dumps(dataclasses.asdict(ports), indent=2) + "\n")
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
