"""Progress of an update: one line for each resource that takes longer than two seconds, and why it waits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from pulumi.automation.events import EngineEvent
from rich.console import Console

from ops.adapters.automation import short_name, strip_colour

SLOW = 2.0
_DONE = {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "create-replacement": "replaced",
    "delete-replaced": "removed the old",
    "replace": "replaced",
}


@dataclass
class _Step:
    op: str
    began: float = field(default_factory=time.monotonic)
    waiting: str = ""
    printed: str = ""
    printed_at: float = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Progress:
    """Receives engine events; as a context manager it runs a thread that prints the steps that still run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: dict[str, _Step] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def __call__(self, event: EngineEvent) -> None:
        with self._lock:
            if event.resource_pre_event:
                step = event.resource_pre_event.metadata
                state = step.new or step.old
                if step.op.value in _DONE and state and state.custom:
                    self._steps[step.urn] = _Step(step.op.value)
            elif event.res_outputs_event:
                self._end(event.res_outputs_event.metadata.urn, "✓")
            elif event.res_op_failed_event:
                self._end(event.res_op_failed_event.metadata.urn, "✗")
            elif event.diagnostic_event and event.diagnostic_event.urn:
                self._record_message(
                    event.diagnostic_event.urn,
                    event.diagnostic_event.message,
                    event.diagnostic_event.severity,
                )

    def _end(self, urn: str, mark: str) -> None:
        step = self._steps.pop(urn, None)
        if step and (step.seconds >= SLOW or mark == "✗"):
            what = _DONE[step.op] if mark == "✓" else f"could not be {_DONE[step.op]}"
            self._print(f"  {mark} {short_name(urn)} {what} ({step.seconds:.1f} s)")

    def _record_message(self, urn: str, message: str, severity: str) -> None:
        text = strip_colour(message).strip()
        step = self._steps.get(urn)
        if step and text and severity != "error":
            step.waiting = text.splitlines()[-1]

    def _watch(self) -> None:
        while not self._done.wait(SLOW):
            with self._lock:
                for urn, step in self._steps.items():
                    news = step.waiting != step.printed or step.seconds - step.printed_at >= 5 * SLOW
                    if step.seconds >= SLOW and news:
                        step.printed, step.printed_at = step.waiting, step.seconds
                        why = f": {step.waiting}" if step.waiting else ""
                        self._print(f"  … {short_name(urn)}{why} ({step.seconds:.0f} s)")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)
