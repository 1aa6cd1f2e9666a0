"""Reads what the emergency procedures would do now. Changes nothing, and holds no lock."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.commands import measures
from ops.commands.lockdown import find_standing
from ops.commands.rollback import Wish, make_plan
from ops.decisions.procedures import Procedure, Situation, list_procedures
from ops.errors import OpsError
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import gather_context, load_settings
from settings import StackSettings


def read_procedures(session: Session) -> list[Procedure]:
    """Each procedure. What cannot be read makes its own procedure say so, and no other."""
    settings = load_settings(session.file)
    plan, refusal = _plan_rollback(session)
    try:
        lockdown = find_standing(session)
    except OpsError:
        lockdown = settings.lockdown
    found = Situation(plan, refusal, _read_ages(session, settings), lockdown, datetime.now(UTC))
    return list_procedures(settings, found)


def _plan_rollback(session: Session) -> tuple[str | None, str]:
    """The command's own plan, with its gates."""
    try:
        plan = make_plan(session, gather_context(session, decides="release"), Wish())
    except OpsError as error:
        return None, error.brief
    image = plan.release.image.rpartition("/")[2]
    keys = len(plan.differences)
    return f"from revision {plan.leaving.revision} to {plan.target} ({image}), {keys} differences, no migration", ""


def _read_ages(session: Session, settings: StackSettings) -> dict[str, float | None]:
    if settings.backup is None:
        return {}
    try:
        cluster = session.cluster(settings, stack_file.read(session.file).config)
        found = measures.measure(settings, cluster, measures.BACKUPS)
    except OpsError:
        return {}
    return {name: found.number(name, 0) for name in measures.BACKUPS}
