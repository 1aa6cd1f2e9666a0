"""The facts that a command decides on: stack file, history, state, database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ops.decisions.release_state import (
    ReleaseState,
    last_applied,
    locked_since,
    maintained_since,
    outdated_rotations,
    read_release_state,
    released_since,
)
from ops.decisions.schema_gate import Database, exact_database, recorded_database
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.history import History
from ops.stack.session import Judged, Session
from ops.stack.stack_file import StackText
from settings import SettingsError, StackFile, StackSettings, parse, read_stack_file
from settings.lockdown import LOCKDOWN

if TYPE_CHECKING:
    from datetime import datetime

    from ops.adapters.cluster import Cluster
    from ops.adapters.server_clock import ServerClock


@dataclass
class StackContext:
    """The stack file, the history, the state and the database as they are now."""

    text: StackText
    settings: StackSettings
    history: History
    now: ReleaseState
    pending: list[Mapping[str, Any]]
    database: Database
    cluster: Cluster
    clock: ServerClock
    """The time in the cluster, which its servers compare with what a command writes."""

    def checked(self, changes: Mapping[str, Any]) -> StackText:
        """The stack file with these changes, refused when the program would; a lockdown that is over is removed."""
        if (lockdown := self.settings.lockdown) and lockdown.over(self.clock.now()):
            changes = {LOCKDOWN: None, **changes}
        file = read_stack_file(self.text.path)
        values = {key: value for key, value in {**file.values, **changes}.items() if value is not None}
        refuse_invalid(lambda: parse(StackFile(file.name, values, file.sealed)))
        return self.text.edited(changes)


def refuse_invalid(work: Callable[[], StackSettings]) -> StackSettings:
    """Settings, or a Refused that lists every problem."""
    try:
        return work()
    except SettingsError as error:
        raise Refused(str(error).strip()) from None


def load_settings(path: Path) -> StackSettings:
    return refuse_invalid(lambda: parse(read_stack_file(path)))


def require_application(session: Session, verb: str) -> None:
    """Refuse what cannot be without an application. `verb`: what there is nothing to do to, such as `deploy`."""
    if not load_settings(session.file).application.services:
        raise Refused(
            f"{session.file.name} has no runbook:application, so there is nothing to {verb}: add it "
            "(docs/adopting.md). `pulumi up` applies what the file has. Nothing was changed."
        )


Stale = Literal["release", "lockdown", "maintenance"]


def gather_context(session: Session, *, decides: Stale | None = None) -> StackContext:
    """Read history, state and cluster at the same time: each takes a good part of a second.

    `decides`: what the command sets anew, so that the stack file may be older in this.
    """
    text = stack_file.read(session.file)
    settings = load_settings(session.file)
    with ThreadPoolExecutor(max_workers=8) as pool:
        history_, state_ = pool.submit(_read_first_page, session), pool.submit(session.reader.read_state)
        engine_ = pool.submit(lambda: session.engine)
        cluster_ = pool.submit(session.cluster, settings, text.config)
        clock_ = pool.submit(lambda: cluster_.result().read_clock())
        services = settings.application.services
        level_ = pool.submit(
            lambda: (
                cluster_.result().schema_level(settings.application.main_service, settings.commands)
                if services
                else None
            )
        )
        engine_.result()
        history, level, clock = history_.result(), level_.result(), clock_.result()
        session.judged = Judged(next(history.updates(), None))
        newest = next(history.updates(), None)
        if behind := outdated_rotations(text.config, last_applied(history)):
            raise Refused(
                f"{session.file.name} is older than the last update: {', '.join(behind)} was rotated since, and this "
                "file would restore a revoked value. Get the newest stack file (`git pull`). Nothing was changed."
            )
        if stale := _find_unknown_change(text, history, decides, clock.now()):
            raise Refused(
                f"{session.file.name} is older than the last update: {stale}, and this file would undo that. Get the "
                f"newest stack file (`git pull`), or write it from the last update: `pulumi config refresh "
                f"--force --stack {session.stack}`, then check `git diff`. Nothing was changed."
            )
        return StackContext(
            text=text,
            settings=settings,
            history=history,
            now=read_release_state(text.config, newest),
            pending=pending_creates(state_.result()),
            database=recorded_database(history) if level is None else exact_database(level),
            cluster=cluster_.result(),
            clock=clock,
        )


def _find_unknown_change(text: StackText, history: History, decides: Stale | None, now: datetime) -> str | None:
    newest = next(history.updates(), None)
    found = {
        "release": released_since(text.config, newest),
        "lockdown": locked_since(text.config, last_applied(history), now),
        "maintenance": maintained_since(text.config, last_applied(history)),
    }
    return next((change for what, change in found.items() if change and what != decides), None)


def _read_first_page(session: Session) -> History:
    history = session.history()
    _ = history.newest
    return history


def pending_creates(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Resources that a killed run may have made."""
    operations = state.get("pending_operations") or []
    return [operation["resource"] for operation in operations if operation["type"] == "creating"]


def outputs(state: Mapping[str, Any]) -> dict[str, Any]:
    """The stack's outputs; a secret one is ciphertext here."""
    resources = state.get("resources") or []
    root = next((item for item in resources if item["type"] == "pulumi:pulumi:Stack"), {})
    return dict(root.get("outputs") or {})
