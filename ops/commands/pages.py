"""`runbook performance pages`: what the checks of the pages that serve found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ops.commands.backups import tasks_of
from ops.commands.lighthouse_reports import read_reports
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings.performance import PAGE_CHECK


def read_checks(session: Session, seconds: int) -> list[dict[str, Any]]:
    """The results of this time until now, the oldest first."""
    _require_check(session)
    found: list[dict[str, Any]] = tasks_of(session).run("pages", "history", "--seconds", str(seconds))
    return found


def write_reports(session: Session, folder: Path) -> list[Path]:
    """Lighthouse's own reports of the last check, as HTML and JSON. Its pod is kept until the next one has ended."""
    _require_check(session)
    settings = load_settings(session.file)
    cluster = session.cluster(settings, stack_file.read(session.file).config)
    files = read_reports(cluster, PAGE_CHECK)
    if not files:
        raise Refused(
            "No pod of a check that measured a page is there: wait for the next check, or start one by "
            f"`kubectl -n {cluster.namespace} create job --from=cronjob/{PAGE_CHECK} {PAGE_CHECK}-now`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]


def _require_check(session: Session) -> None:
    performance = load_settings(session.file).performance
    if performance is None or performance.continuous is None:
        raise Refused(
            f"{session.file.name} has no runbook:performance.continuous, so the pages of stack {session.stack} are not "
            "measured by schedule: write it (docs/gates.md), then deploy."
        )
