"""The engine, through Pulumi's Automation API. No call here ever asks for a secret in clear."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi.automation import (
    CommandError,
    CommandResult,
    ConcurrentUpdateError,
    LocalWorkspace,
    OutputMap,
    PulumiCommand,
    Stack,
    StackNotFoundError,
    UpdateSummary,
)
from pulumi.automation.errors import create_command_error
from pulumi.automation.events import EngineEvent

from ops import history
from ops.errors import Refused
from ops.locks import EngineLock, told

_COLOUR = re.compile(r"<\{%.*?%\}>")
_NOT_THE_CAUSE = re.compile(r"^(update failed|preview failed|update cancel.*|one or more errors occurred.*)$")
OnEvent = Callable[[EngineEvent], object]


class Locked(Exception):
    """Another engine holds the stack."""

    def __init__(self, locks: list[EngineLock]) -> None:
        self.locks = locks
        super().__init__(", ".join(map(str, locks)))


@dataclass
class Run:
    """What an update or preview did."""

    errors: list[str] = field(default_factory=list)
    touched: bool = False
    """Whether any resource was begun to be changed: until then a failure has changed nothing."""
    changes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(operation, URN) of every change, in the order in which they began."""
    exit_code: int = 0

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0

    @property
    def interrupted(self) -> bool:
        """Ended by a signal or a cancellation, not by the program or a resource."""
        return self.exit_code < 0 or (not self.succeeded and any("cancel" in error for error in self.errors))

    def see(self, event: EngineEvent) -> None:
        if event.resource_pre_event:
            step = event.resource_pre_event.metadata
            state = step.new or step.old
            if step.op not in ("same", "read", "refresh") and state and state.custom:
                self.touched = self.touched or not event.resource_pre_event.planning
                self.steps.append((str(step.op.value), step.urn))
        elif event.res_outputs_event:
            step = event.res_outputs_event.metadata
            if step.type == "pulumi:pulumi:Stack" and step.new:
                self.outputs = dict(step.new.outputs or {})
        elif event.summary_event:
            self.changes = {str(op): count for op, count in event.summary_event.resource_changes.items()}
        elif event.diagnostic_event and event.diagnostic_event.severity == "error":
            self._error(event.diagnostic_event.message, event.diagnostic_event.urn)

    def _error(self, text: str, urn: str | None) -> None:
        message = plain(text).strip().removeprefix("error: ").strip()
        if not message or _NOT_THE_CAUSE.match(message):
            return
        resource = short(urn) if urn and "pulumi:pulumi:Stack" not in urn else ""
        told_once = f"{resource}: {message}" if resource and resource not in message else message
        if told_once not in self.errors:
            self.errors.append(told_once)


def plain(text: str) -> str:
    """Engine text without its colour marks."""
    return _COLOUR.sub("", text)


def short(urn: str) -> str:
    """`Job migrate` for `urn:pulumi:…$kubernetes:batch/v1:Job::migrate`."""
    _, _, types, name = urn.split("::", 3)
    return f"{types.rsplit('$', 1)[-1].rsplit(':', 1)[-1]} {name}"


class _Cli(PulumiCommand):
    """Runs the CLI as the base class does, and knows the running process and its signal."""

    running: subprocess.Popen[str] | None = None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,  # noqa: ARG002
        on_error: Callable[[str], Any] | None = None,  # noqa: ARG002
    ) -> CommandResult:
        env = {**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"}
        with subprocess.Popen(
            [self.command, "--non-interactive", *args],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self.running = process
            stdout, stderr = process.communicate()
        result = CommandResult(stdout=stdout, stderr=stderr, code=process.returncode)
        if process.returncode != 0:
            error = create_command_error(result)
            error.result = result  # pyright: ignore[reportAttributeAccessIssue]
            raise error
        return result

    def interrupt(self) -> None:
        if self.running and self.running.poll() is None:
            self.running.send_signal(signal.SIGINT)


class _Workspace(LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        """Nothing: every command names its stack, and what plain `pulumi` has selected is not ours to change."""


class _Stack(Stack):
    def outputs(self) -> OutputMap:
        """Nothing: the base class asks for them in clear after each update; the events bring them masked."""
        return {}

    def info(self, show_secrets: bool = False) -> UpdateSummary | None:  # noqa: ARG002
        return super().info(show_secrets=False)


class Engine:
    """One stack of the project in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._cli = _Cli()
        except FileNotFoundError:
            raise Refused(
                "pulumi is not on PATH: install it, or `. ./.sandbox/env` in the sandbox."
            ) from None
        self._workspace = _Workspace(
            work_dir=str(folder), pulumi_command=self._cli, env_vars={"PULUMI_SKIP_UPDATE_CHECK": "true"}
        )
        self.stack = ""

    def use(self, stack: str) -> None:
        self.stack = stack
        self._stack = _Stack.select(stack, self._workspace)

    def ask(self, *args: str) -> str:
        """The output of a CLI command that changes nothing and prints no secret."""
        try:
            return self._cli.run([*args], str(self.folder), self._workspace.env_vars).stdout
        except CommandError as error:
            raise self._refusal(error) from None

    def selected(self) -> str:
        """The stack that plain `pulumi` would work on."""
        try:
            return self.ask("stack", "--show-name").strip()
        except Refused as error:
            raise Refused(f"No stack is chosen: give --stack NAME or set RUNBOOK_STACK. ({error})") from None

    def backend(self) -> str:
        return os.environ.get("PULUMI_BACKEND_URL") or json.loads(self.ask("whoami", "--json")).get("url", "")

    def history(self, size: int, page: int) -> list[history.Entry]:
        args = (
            "stack",
            "history",
            "--json",
            "--page-size",
            str(size),
            "--page",
            str(page),
            "--stack",
            self.stack,
        )
        return history.parse(json.loads(self.ask(*args)))

    def state(self) -> dict[str, Any]:
        """The deployment as it is stored: secrets are ciphertext in it."""
        return json.loads(self.ask("stack", "export", "--stack", self.stack))["deployment"]

    def up(self, message: str, config_file: Path, on_event: OnEvent) -> Run:
        def work(see: OnEvent) -> None:
            self._stack.up(
                message=message, config_file=str(config_file), color="never", on_event=see, show_secrets=False,
                suppress_outputs=True, suppress_progress=True,
            )  # fmt: skip

        return self._run(work, on_event)

    def preview(self, config_file: Path, on_event: OnEvent) -> Run:
        def work(see: OnEvent) -> None:
            self._stack.preview(
                config_file=str(config_file), color="never", on_event=see, suppress_progress=True
            )

        return self._run(work, on_event)

    def _run(self, work: Callable[[OnEvent], None], on_event: OnEvent) -> Run:
        run = Run()

        def see(event: EngineEvent) -> None:
            run.see(event)
            on_event(event)

        try:
            with self._forwarded_signals():
                work(see)
        except ConcurrentUpdateError as error:
            raise Locked(told(str(error))) from None
        except CommandError as error:
            result: CommandResult = error.result  # pyright: ignore[reportAttributeAccessIssue]
            run.exit_code = result.code
            if result.code < 0:
                run.errors.append(f"the engine was ended by {signal.Signals(-result.code).name}")
            elif not run.errors:
                run.errors = [_message(result)]
        return run

    @contextmanager
    def _forwarded_signals(self) -> Iterator[None]:
        """A terminal's Ctrl-C reaches the engine by itself, SIGTERM does not; both let it end in order."""
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: self._cli.interrupt()),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def break_lock(self) -> None:
        self.ask("cancel", "--yes", "--stack", self.stack)

    def adopt(self, ids: Mapping[str, str], config_file: Path) -> None:
        """Settle pending creates: import those with an id, forget the others. Looks at every resource."""
        pairs = [
            part
            for urn, known in ids.items()
            for part in ("--import-pending-creates", urn, "--import-pending-creates", known)
        ]
        self.ask(
            "refresh", "--yes", "--skip-preview", "--clear-pending-creates", *pairs, "--config-file", str(config_file),
            "--message", "settle what a killed run left pending", "--color", "never", "--stack", self.stack,
        )  # fmt: skip

    def _refusal(self, error: CommandError) -> Refused:
        if isinstance(error, StackNotFoundError):
            return Refused(
                f"There is no stack {self.stack} in this backend: create it with `pulumi stack init {self.stack}`."
            )
        if isinstance(error, ConcurrentUpdateError):
            raise Locked(told(str(error))) from None
        return Refused(_message(error.result))  # pyright: ignore[reportAttributeAccessIssue]


def _message(result: CommandResult) -> str:
    """The CLI's own words, without its preamble."""
    text = plain(result.stderr.strip() or result.stdout.strip())
    lines = [line.removeprefix("error: ") for line in text.splitlines() if line.strip()]
    if any("incorrect passphrase" in line for line in lines):
        return "The passphrase is wrong for this stack: check PULUMI_CONFIG_PASSPHRASE_FILE (or PULUMI_CONFIG_PASSPHRASE)."
    if any("passphrase must be set" in line for line in lines):
        return (
            "No passphrase: set PULUMI_CONFIG_PASSPHRASE_FILE (or PULUMI_CONFIG_PASSPHRASE) for this stack."
        )
    return "\n".join(lines[-15:]) or f"pulumi ended with exit code {result.code}"
