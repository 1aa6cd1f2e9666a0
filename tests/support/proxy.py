"""A network that fails on purpose: a TCP proxy on 127.0.0.1 that changes, stops or cuts what passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Change = Callable[[bytes], bytes]


class Cut(Exception):
    """Raised by a change: the connection breaks here."""


def _same(data: bytes) -> bytes:
    return data


@dataclass
class Proxy:
    """`up` gets what clients send, `down` what they receive; both may change it or raise `Cut`."""

    target: int
    up: Change = _same
    down: Change = _same
    down_for_good: bool = False
    """Refuse new connections as well."""
    port: int = 0
    resets: int = 0
    """How many connections a change has broken."""
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            if self.down_for_good:
                _reset(client)
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self._open |= {client, server}
            for source, sink, which in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pump, args=(source, sink, which), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, which: str) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(getattr(self, which)(data))
            sink.shutdown(socket.SHUT_WR)
        except (Cut, OSError) as error:
            self.resets += isinstance(error, Cut)
            _reset(source)
            _reset(sink)

    def close(self) -> None:
        for each in self._open:
            _reset(each)


def _reset(each: socket.socket) -> None:
    # A thread may be inside recv(): close alone would not wake it.
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def proxy(target: int, up: Change = _same, down: Change = _same) -> Iterator[Proxy]:
    made = Proxy(target, up, down)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.port = listener.getsockname()[1]
        thread = threading.Thread(target=made._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            made.close()
            thread.join()


class Flip:
    """Flips one bit of the byte after `marker`, once."""

    def __init__(self, marker: bytes) -> None:
        self._marker = marker
        self.done = False

    def __call__(self, data: bytes) -> bytes:
        at = data.find(self._marker) + len(self._marker)
        if self.done or at < len(self._marker) or at >= len(data):
            return data
        self.done = True
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class After:
    """Lets `count` bytes pass, then does `then` with every piece."""

    def __init__(self, count: int, then: Change) -> None:
        self._left, self._then = count, then
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> bytes:
        with self._lock:
            self._left -= len(data)
            passing = self._left >= 0
        return data if passing else self._then(data)


def cut(_: bytes) -> bytes:
    raise Cut


class Stall:
    """Holds data back until `release`; `reached` is set at the first piece."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._release = threading.Event()

    def __call__(self, data: bytes) -> bytes:
        self.reached.set()
        self._release.wait()
        return data

    def release(self) -> None:
        self._release.set()
