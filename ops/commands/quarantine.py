"""`runbook quarantine`: image digests that a deploy refuses."""

from __future__ import annotations

from ops.decisions.quarantine import quarantine_change, without_quarantined
from ops.decisions.release_state import ReleaseState, read_release_state
from ops.stack import stack_file
from ops.stack.locks import exclusive
from ops.stack.session import Session
from settings import Quarantined


def list_quarantine(session: Session) -> tuple[Quarantined, ...]:
    return _now(session).quarantine


def lift(session: Session, digest: str) -> Quarantined:
    """Remove one digest from the list in the stack file; the removed entry."""
    with exclusive(session.file, "quarantine lift"):
        before = _now(session).quarantine
        after = without_quarantined(before, digest)
        stack_file.read(session.file).edited(quarantine_change(after)).save()
        return next(item for item in before if item not in after)


def _now(session: Session) -> ReleaseState:
    newest = next(session.history().updates(), None)
    return read_release_state(stack_file.read(session.file).config, newest)
