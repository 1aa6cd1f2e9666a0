"""One command on one stack: its files, its engine and its cluster.

Heavy modules are imported by the commands that need them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.errors import Refused
from ops.stack.history import History
from ops.stack.locks import EngineLock
from ops.stack.pulumi_cli import PulumiCli

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from ops.adapters.automation import Engine
    from ops.adapters.cluster import Cluster
    from ops.stack.command_lock import CommandLock
    from ops.stack.history import Entry
    from ops.stack.locks import LocalLock
    from settings import StackSettings


@dataclass
class Judged:
    """What a command decides on. Its decisions are valid for no later state of the stack."""

    newest: Entry | None
    """The newest update in the history that it has seen or made."""
    written: str | None = None
    """The stack file as it wrote it last."""
    updates: int = 0
    """How many updates it has made."""


@dataclass
class Session:
    """A stack of the project in a folder."""

    reader: PulumiCli
    file: Path
    """Its stack file."""
    started: float = field(default_factory=time.monotonic)
    local_lock: LocalLock | None = None
    command_lock: CommandLock | None = None
    """Held while a command changes the stack."""
    judged: Judged | None = None

    @property
    def stack(self) -> str:
        return self.reader.stack

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @cached_property
    def engine(self) -> Engine:
        from ops.adapters.automation import Engine

        # Recorded in the local lock: an engine's own lock does not say on which machine it runs.
        def on_start(pid: int) -> None:
            if self.local_lock:
                self.local_lock.add_engine(pid)

        def on_end(pid: int) -> None:
            if self.local_lock:
                self.local_lock.remove_engine(pid)

        return Engine(self.reader, on_start, on_end)

    def stop_engine(self) -> None:
        """End the update that runs, if one does, as Ctrl-C does."""
        self.engine.stop()

    @cached_property
    def console(self) -> Console:
        """Progress goes to stderr, so that stdout is only the result."""
        from rich.console import Console

        return Console(stderr=True, soft_wrap=True)

    def say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False)

    def locks(self) -> list[EngineLock] | None:
        """The engine's locks on the stack; None when the backend reports them only to an update."""
        return self.reader.read_locks()

    def history(self) -> History:
        return History(self.reader.read_history)

    def cluster(self, settings: StackSettings, config: Mapping[str, Any]) -> Cluster:
        from ops.adapters.cluster import Cluster

        return Cluster(settings.namespace, config)


def open_session(cwd: Path, stack: str | None) -> Session:
    """The session for `--cwd` and `--stack`, found as `pulumi` finds them."""
    started = time.monotonic()
    here = cwd.resolve()
    folder = next((place for place in (here, *here.parents) if (place / "Pulumi.yaml").is_file()), None)
    if folder is None:
        raise Refused(f"There is no Pulumi.yaml in {here} or above it: go to the project, or add --cwd.")
    reader = PulumiCli(folder, stack)
    given = os.environ.get("PULUMI_OPTION_CONFIG_FILE")
    file = Path(given) if given else folder / f"Pulumi.{reader.stack.rsplit('/', 1)[-1]}.yaml"
    return Session(reader, file, started)
