"""One read-only run of the engine: what it would change, what it printed, and whether it succeeded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pulumi import automation as auto
from pulumi.automation.events import EngineEvent, OpType

VERBS = {
    OpType.DELETE: "delete",
    OpType.REPLACE: "replace",
    OpType.UPDATE: "update",
    OpType.CREATE: "create",
    OpType.IMPORT: "import",
    OpType.DISCARD: "discard",
}
"""The engine's steps that change something, what destroys first. It has more for a replacement; one is enough."""


@dataclass(frozen=True)
class Change:
    """One resource that a run would change."""

    verb: str
    kind: str
    """Its type token, such as `kubernetes:apps/v1:Deployment`."""
    name: str
    fields: tuple[str, ...] = ()
    """The properties that differ, if the engine names them."""


@dataclass(frozen=True)
class EngineRun:
    """What a preview found."""

    changes: tuple[Change, ...]
    unchanged: int
    printed: str
    """What the engine printed, with secrets masked by it."""
    errors: str
    """Its errors; empty when it succeeded."""

    @property
    def succeeded(self) -> bool:
        return not self.errors


def preview(stack_name: str, folder: Path) -> EngineRun:
    """What the program would change in the stack. Printed while it runs."""
    return _run(stack_name, folder, refresh=False)


def preview_refresh(stack_name: str, folder: Path) -> EngineRun:
    """What differs between the cluster and the stack's state. Nothing is written."""
    return _run(stack_name, folder, refresh=True)


def _run(stack_name: str, folder: Path, *, refresh: bool) -> EngineRun:
    lines: list[str] = []
    events: list[EngineEvent] = []

    def show(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    failure = ""
    try:
        stack = auto.select_stack(stack_name=stack_name, work_dir=str(folder))
        if refresh:
            stack.preview_refresh(
                color="never", on_output=show, on_event=events.append, show_secrets=False, suppress_progress=True
            )
        else:
            stack.preview(color="never", on_output=show, on_event=events.append, diff=True)
    except auto.CommandError as error:
        failure = _errors(events) or str(error)
    return EngineRun(tuple(_changes(events)), _unchanged(events), "\n".join(lines), failure)


def _changes(events: Iterable[EngineEvent]) -> list[Change]:
    found: dict[str, Change] = {}
    for event in events:
        # A refresh says only afterwards what it found: before, its step is `refresh`.
        seen = event.resource_pre_event or event.res_outputs_event
        if seen and seen.metadata.op in VERBS:
            step = seen.metadata
            fields = tuple(sorted(step.detailed_diff or step.diffs or ()))
            found.setdefault(step.urn, Change(VERBS[step.op], step.type, step.urn.rsplit("::", 1)[-1], fields))
    order = list(VERBS.values())
    return sorted(found.values(), key=lambda change: (order.index(change.verb), change.kind, change.name))


def _unchanged(events: Iterable[EngineEvent]) -> int:
    counts = [event.summary_event.resource_changes for event in events if event.summary_event]
    return sum(count.get(OpType.SAME, 0) for count in counts)


def _errors(events: Iterable[EngineEvent]) -> str:
    found = [event.diagnostic_event for event in events if event.diagnostic_event]
    return "\n".join(event.message.strip() for event in found if event.severity == "error")
