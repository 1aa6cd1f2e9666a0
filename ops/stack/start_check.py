"""Answers the program, when the engine holds the stack's lock, whether the update that was decided on still applies.

A command judges what stands before it starts the engine, which takes its lock a second later. In between, a plain
`pulumi up` may begin and end. So the program asks once more (program/start_check.py), and waits for the answer.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from settings.start_check import GO, START_CHECK


class StartCheck:
    """`find_change` says what is no longer as it was judged, or None."""

    def __init__(self, find_change: Callable[[], str | None]) -> None:
        self._find_change = find_change
        self.change: str | None = None
        """Why the program was not let go on."""

    @contextmanager
    def answering(self) -> Iterator[Mapping[str, str]]:
        """Answer until the block ends; the engine's environment for it."""
        with tempfile.TemporaryDirectory(prefix="runbook-") as folder, socket.socket(socket.AF_UNIX) as listener:
            path = str(Path(folder, "start"))
            listener.bind(path)
            listener.listen()
            thread = threading.Thread(target=self._answer, args=(listener,), daemon=True)
            thread.start()
            try:
                yield {START_CHECK: path}
            finally:
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
                thread.join()

    def _answer(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                try:
                    self.change = self._find_change()
                except Exception as error:  # the engine waits: it gets an answer in any case
                    self.change = f"what stands could not be read ({error})"
                line.sendall((self.change or GO).encode())
