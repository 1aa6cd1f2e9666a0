"""`runbook go-live`: the checklist of a go-live, tried in the application's network and from this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ops.adapters.cluster import Unreachable
from ops.adapters.task_jobs import TaskFailed, Tasks
from ops.commands import health
from ops.commands.backups import list_backups
from ops.decisions.go_live import Facts, Ran, judge
from ops.decisions.release_state import last_good
from ops.errors import OpsError, Refused
from ops.stack.reports import keep_report, make_report, write_report
from ops.stack.session import Session
from ops.stack.stack_context import StackContext, gather_context, outputs, require_application
from settings import Command, Release
from settings.go_live import CHECKLIST, GoLive

T = TypeVar("T")


def go_live(session: Session, folder: Path | None) -> dict[str, Any]:
    """Try every line of the checklist and keep the report; returns it."""
    require_application(session, "go live with")
    facts = gather_context(session)
    checklist = facts.settings.checklist
    if checklist is None:
        raise Refused(
            f"{session.file.name} has no {CHECKLIST}: write `{CHECKLIST}: {{}}` (docs/gates.md), then deploy. "
            "Nothing was checked."
        )
    good = last_good(facts.history)
    if good is None or good.release is None or not facts.now.finished:
        raise Refused(f"The last update of stack {session.stack} is not finished: see `runbook status`.")
    release = good.release
    lines = judge(checklist, _gather(session, facts, checklist, release))
    subject = {
        "stack": session.stack,
        **{key: release.to_config().get(key) for key in ("revision", "image", "git", "version")},
    }
    report = make_report(session, "go-live", subject, lines)
    kept = keep_report(facts.cluster, report, release.revision)
    if folder:
        write_report(report, folder)
    return {**report.to_json(), "keptAs": kept}


def _gather(session: Session, facts: StackContext, checklist: GoLive, release: Release) -> Facts:
    settings, tasks = facts.settings, Tasks(facts.cluster, session.say)
    with ThreadPoolExecutor(max_workers=4) as pool:
        steps_ = pool.submit(_or_reason, lambda: tasks.check_go_live()["lines"])
        wanted = settings.backup and "backup" not in checklist.without
        backups_ = pool.submit(_or_reason, lambda: list_backups(session) if wanted else [])
        url = outputs(session.reader.read_state()).get("url") or settings.url or settings.application.internal_url("/")
        front = health.read_health(url, settings.health_path)
        # One after the other: the namespace's quota has room for a rollout, not for every Job at once.
        commands = {name: _run(tasks, name, command) for name, command in _commands(checklist).items()}
        return Facts(
            now=datetime.now(UTC),
            release=release,
            database=facts.database,
            steps=steps_.result(),
            backups=backups_.result(),
            backup=settings.backup,
            url=url,
            front_door=(front.status, front.detail),
            commands=commands,
        )


def _commands(checklist: GoLive) -> Mapping[str, Command]:
    wanted = {"payments": checklist.payments, "smoke": checklist.smoke}
    if command := checklist.administrators.command:
        wanted["administrators"] = command
    return {name: command for name, command in wanted.items() if name not in checklist.without}


def _run(tasks: Tasks, name: str, command: Command) -> Ran:
    try:
        return Ran(True, _plain(f"exit code 0: {tasks.run_go_live_command(name, command)}"))
    except Unreachable:
        raise
    except (TaskFailed, Refused) as error:
        return Ran(False, _plain(str(error)))


_EVIDENCE = 600
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _plain(text: str) -> str:
    """One line without colours; the end of what is too long, where failures are."""
    return " ".join(_COLOURS.sub("", text).split())[-_EVIDENCE:]


def _or_reason(work: Callable[[], T]) -> T | str:
    """The value, or why there is none."""
    try:
        return work()
    except Unreachable:
        raise
    except OpsError as error:
        return error.brief
