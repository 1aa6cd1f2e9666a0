"""What every command of `runbook` shares: common options, confirmation, JSON, and how failures end."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ops.errors import EXIT_CODES, Interrupted, OpsError, Refused

if TYPE_CHECKING:
    from ops.commands.update import LockPolicy
    from ops.stack.session import Session

F = TypeVar("F", bound=Callable[..., object])
NOT_CONFIRMED = "Not confirmed; nothing was changed."


@dataclass(frozen=True)
class Invocation:
    """One call of a command, with its common options."""

    stack: str | None = None
    cwd: Path = Path()
    as_json: bool = False
    yes: bool = False
    break_lock: bool = False
    wait: float = 0

    def open_session(self) -> Session:
        from ops.stack import session

        return session.open_session(self.cwd, self.stack)

    def lock_policy(self) -> LockPolicy:
        from ops.commands.update import LockPolicy

        return LockPolicy(self.break_lock, self.confirm, asks=not self.yes, wait_seconds=self.wait)

    def confirm(self, question: str) -> bool:
        """The operator's answer; True with --yes. Without a terminal, refused."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise Refused(f"{question} There is no terminal to ask on: add --yes. Nothing was changed.")
        return typer.confirm(question, err=True)

    def require_confirmation(self, question: str) -> None:
        if not self.confirm(question):
            raise Refused(NOT_CONFIRMED)

    def show(self, value: object, text: str) -> None:
        """The value with --json, else the text."""
        typer.echo(_to_json(value) if self.as_json else text)

    def show_rows(self, rows: Any, print_rows: Callable[[Any], object]) -> None:
        if self.as_json:
            self.show(rows, "")
        else:
            print_rows(rows)

    def report(self, done: Mapping[str, Any], text: str) -> None:
        """The result of a change, and where the application answers."""
        if self.as_json:
            self.show(done, "")
        else:
            typer.secho(text, fg="green")
            if done["url"]:
                typer.echo(done["url"])


def _complete_stack(incomplete: str) -> list[str]:
    names = (file.name.split(".")[1] for file in sorted(Path().glob("Pulumi.*.yaml")))
    return [name for name in names if name.startswith(incomplete)]


_OPTIONS: Mapping[str, Any] = {
    "stack": Annotated[
        str | None,
        typer.Option(
            "--stack",
            "-s",
            envvar=["RUNBOOK_STACK", "PULUMI_STACK"],
            help="Default: the selected stack.",
            autocompletion=_complete_stack,
        ),
    ],
    "cwd": Annotated[Path, typer.Option("--cwd", "-C", help="The project's folder.", file_okay=False, exists=True)],
    "as_json": Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")],
    "yes": Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")],
    "break_lock": Annotated[
        bool, typer.Option("--break-lock", help="Remove the lock of an update elsewhere that is known to be gone.")
    ],
    "wait": Annotated[
        float,
        typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for another command that changes the stack."),
    ],
}
READS = ("stack", "cwd", "as_json")
ASKS = (*READS, "yes")
CHANGES = (*ASKS, "break_lock", "wait")


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    examples: str,
    options: tuple[str, ...] = CHANGES,
    exit_codes: str = EXIT_CODES,
    panel: str | None = None,
) -> Callable[[F], F]:
    """Register a function as a command: its first parameter receives the common `options` as an Invocation, and an
    OpsError ends as one message with its exit code. `examples`: one command line per line."""

    def register(function: F) -> F:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        common = [
            inspect.Parameter(
                option,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(Invocation, option),
                annotation=_OPTIONS[option],
            )
            for option in options
        ]

        def run(**given: Any) -> None:
            call = Invocation(**{option: given.pop(option) for option in options})
            with report_errors(call.as_json):
                function(call, **given)

        run.__doc__ = function.__doc__
        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature([*(parameter.replace(kind=keyword) for parameter in own), *common])
        vars(run).update(__signature__=signature)
        run.__annotations__ = {}
        lines = examples.strip().splitlines()
        head = "[bold]Examples[/]: " if len(lines) > 1 else "[bold]Example[/]: "
        epilog = "\n\n".join(filter(None, [head + lines[0], *lines[1:], exit_codes]))
        app.command(name or function.__name__, epilog=epilog, rich_help_panel=panel)(run)
        return function

    return register


@contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """An OpsError, or an interruption, ends as one message and its exit code."""
    try:
        yield
        return
    except OpsError as error:
        end = error
    except typer.Abort:
        end = Refused(NOT_CONFIRMED)
    except KeyboardInterrupt:
        end = Interrupted("Stopped. `runbook status` shows what runs and what is not finished.")
    message = str(end).strip()
    if as_json:
        words = {1: "rolledBack", 2: "refused", 3: "failed", 4: "interrupted"}
        causes = [cause.to_dict() for cause in end.causes]
        typer.echo(_to_json({"result": words[end.exit_code], "error": message, "causes": causes}))
    typer.echo(f"{typer.style('error:', fg='red')} {message}", err=True)
    raise typer.Exit(end.exit_code)


def _to_json(value: object) -> str:
    """Of a list each item on a line of its own: indented, a thousand updates take the encoder a tenth of a second."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value, indent=2)


def camel_keys(value: Any) -> Any:
    """A task's JSON in the style of this command's: `schema_level` becomes `schemaLevel`, names of tables stay."""
    if isinstance(value, list):
        return [camel_keys(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        re.sub(r"_([a-z])", lambda found: found[1].upper(), key): item
        if key in ("tables", "rows")
        else camel_keys(item)
        for key, item in value.items()
    }
