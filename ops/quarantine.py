"""`runbook quarantine`: the digests that were rolled back."""

from __future__ import annotations

from ops import decisions, stackfile
from ops.locks import exclusive
from ops.session import Session
from settings import Quarantined


def listed(session: Session) -> tuple[Quarantined, ...]:
    return _now(session).quarantine


def lift(session: Session, digest: str) -> Quarantined:
    """Take one digest off the list in the stack file, and say which."""
    with exclusive(session.file, "quarantine lift"):
        before = _now(session).quarantine
        after = decisions.without_quarantined(before, digest)
        stackfile.read(session.file).edited(decisions.quarantine_change(after)).save()
        return next(item for item in before if item not in after)


def _now(session: Session) -> decisions.Standing:
    newest = next(session.history().updates(), None)
    return decisions.standing(stackfile.read(session.file).config, newest)
