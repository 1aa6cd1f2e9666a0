"""One command on one stack: where its files are, what is known before anything is decided."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from ops import decisions, stackfile
from ops.decisions import Database, Standing
from ops.engine import Engine
from ops.errors import Refused
from ops.history import History
from ops.stackfile import StackText
from settings import StackFile, StackSettings, parse, stack_file

if TYPE_CHECKING:
    from ops.cluster import Cluster


@dataclass(frozen=True)
class Say:
    """Progress goes to stderr, so that stdout is only the result."""

    console: Console = field(default_factory=lambda: Console(stderr=True, soft_wrap=True))

    def __call__(self, text: str) -> None:
        self.console.print(text, highlight=False)


@dataclass
class Session:
    """A stack of the project in `folder`."""

    folder: Path
    stack: str
    file: Path
    engine: Engine
    say: Say
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @cached_property
    def project(self) -> str:
        return yaml.safe_load((self.folder / "Pulumi.yaml").read_text())["name"]

    def history(self, page: int | None = None) -> History:
        return History(self.engine.history, page) if page else History(self.engine.history)

    def cluster(self, settings: StackSettings, config: Mapping[str, Any]) -> Cluster:
        from ops.cluster import Cluster  # loads a Kubernetes client: only commands that need one pay for it

        return Cluster(settings.namespace, config)


def open_session(cwd: Path, stack: str | None, say: Say | None = None) -> Session:
    """The session for `--cwd` and `--stack`, found as `pulumi` itself would find them."""
    folder = next(
        (place for place in (cwd, *cwd.resolve().parents) if (place / "Pulumi.yaml").is_file()), None
    )
    if folder is None:
        raise Refused(
            f"There is no Pulumi.yaml in {cwd.resolve()} or above it: go to the project, or give --cwd."
        )
    engine = Engine(folder)
    engine.use(stack or engine.selected())
    name = engine.stack.rsplit("/", 1)[-1]
    given = os.environ.get("PULUMI_OPTION_CONFIG_FILE")
    return Session(
        folder, engine.stack, Path(given) if given else folder / f"Pulumi.{name}.yaml", engine, say or Say()
    )


@dataclass
class Facts:
    """What is true before anything is decided."""

    text: StackText
    settings: StackSettings
    history: History
    now: Standing
    pending: list[Mapping[str, Any]]
    outputs: Mapping[str, Any]
    database: Database
    cluster: Cluster
    extra: Any = None

    def checked(self, changes: Mapping[str, Any]) -> StackText:
        """The stack file with these changes, refused (SettingsError) when the program would refuse it."""
        file = stack_file(self.text.path)
        values = {key: value for key, value in {**file.values, **changes}.items() if value is not None}
        parse(StackFile(file.name, values, file.sealed))
        return self.text.edited(changes)


def gather(session: Session, extra: Callable[[], Any] = lambda: None) -> Facts:
    """Ask engine, cluster and registry at the same time: each takes a good part of a second."""
    text = stackfile.read(session.file)
    settings = parse(stack_file(session.file))
    with ThreadPoolExecutor() as pool:
        history_ = pool.submit(_first_page, session)
        state_ = pool.submit(session.engine.state)
        cluster_ = pool.submit(session.cluster, settings, text.config)
        level_ = pool.submit(
            lambda: cluster_.result().schema_level(settings.application.services[0], settings.commands)
        )
        extra_ = pool.submit(extra)
        history, state, level = history_.result(), state_.result(), level_.result()
        return Facts(
            text=text,
            settings=settings,
            history=history,
            now=decisions.standing(text.config, next(history.updates(), None)),
            pending=pending_creates(state),
            outputs=outputs(state),
            database=decisions.recorded_database(history)
            if level is None
            else Database(level, level, "asked"),
            cluster=cluster_.result(),
            extra=extra_.result(),
        )


def _first_page(session: Session) -> History:
    history = session.history()
    _ = history.newest
    return history


def pending_creates(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Resources that a killed run may or may not have made."""
    operations = state.get("pending_operations") or []
    return [operation["resource"] for operation in operations if operation["type"] == "creating"]


def outputs(state: Mapping[str, Any]) -> dict[str, Any]:
    """The stack's outputs; a secret one is ciphertext here."""
    resources = state.get("resources") or []
    root = next((item for item in resources if item["type"] == "pulumi:pulumi:Stack"), {})
    return dict(root.get("outputs") or {})
