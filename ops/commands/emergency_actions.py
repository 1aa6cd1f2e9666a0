"""`runbook performance …` (HerbisVeritas "Emergency Commands"): commands of the release that the stack file names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ops.adapters.task_jobs import Tasks
from ops.commands.update import LockPolicy, StackLock
from ops.errors import Refused
from ops.stack import stack_file
from ops.stack.session import Session
from ops.stack.stack_context import load_settings
from settings import Command, StackSettings
from settings.operations import OPERATIONS, Emergency

Name = Literal["emergency-cache-clear", "emergency-optimization"]


@dataclass(frozen=True)
class Action:
    """What is run, and what takes it back."""

    name: Name
    about: str
    command: Command
    undo: Command | None

    def describe(self, *, undo: bool) -> str:
        """What is about to be done, with every command line."""
        chosen = self.undo if undo and self.undo else self.command
        head = f"Takes back {self.name}:" if undo else f"{self.about[:1].upper()}{self.about[1:]}:"
        lines = [head, *(f"  {line}" for line in chosen.run)]
        lines.append(f"In the image of the release that serves, for at most {chosen.timeout_seconds} s.")
        if not undo:
            back = f"`runbook performance {self.name} --undo` takes it back." if self.undo else "Nothing to take back."
            lines.append(back)
        return "\n".join(lines)


def find_action(settings: StackSettings, file: str, name: Name, *, undo: bool) -> Action:
    """The action of the stack file, or Refused with what to write."""
    wanted = settings.operations
    given: Emergency | None = wanted.cache_clear if name == "emergency-cache-clear" else wanted.optimization
    if given:
        action = Action(name, given.about, given.command, given.undo)
    elif name == "emergency-cache-clear" and settings.commands.cache:
        action = Action(name, "purges and warms the caches (runbook:commands.cache)", settings.commands.cache, None)
    elif name == "emergency-cache-clear":
        raise Refused(
            f"{file} has neither runbook:commands.cache nor {OPERATIONS}.cacheClear: there is no command that clears a "
            f"cache. Write\n  {OPERATIONS}:\n    cacheClear:\n      about: empties the page cache\n"
            "      command: {run: npm run cache:clear}\nNo deploy is needed. Nothing was changed."
        )
    else:
        raise Refused(
            f"{file} does not say what {name} does. Write\n"
            f"  {OPERATIONS}:\n    optimization:\n      about: turns recommendations off\n"
            "      command: {run: npm run features:reduce}\n      undo: {run: npm run features:restore}\n"
            "No deploy is needed. Nothing was changed."
        )
    if undo and action.undo is None:
        key = "cacheClear" if name == "emergency-cache-clear" else "optimization"
        raise Refused(f"{OPERATIONS}.{key} has no undo: there is nothing to take back. Nothing was changed.")
    return action


def run_action(session: Session, policy: LockPolicy, action: Action, *, undo: bool) -> dict[str, Any]:
    """Run it while no update changes the release. It may be run again: what it does has to bear that."""
    settings = load_settings(session.file)
    command = action.undo if undo and action.undo else action.command
    with StackLock(session, f"performance {action.name}", policy):
        tasks = Tasks(session.cluster(settings, stack_file.read(session.file).config), session.say)
        word = "undo" if undo else "run"
        printed = tasks.run_release_command(f"{action.name}-{word}", command)
    return {
        "result": "succeeded",
        "action": action.name,
        "undone": undo,
        "lastLine": printed,
        "undo": f"runbook performance {action.name} --undo" if action.undo and not undo else None,
        "seconds": round(session.seconds, 1),
        "url": None,
    }
