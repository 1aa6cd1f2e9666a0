"""Updates and previews, through Pulumi's Automation API. No call here reads a secret in plain text."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    UpdateSummary,
)
from pulumi.automation.errors import create_command_error
from pulumi.automation.events import EngineEvent

from ops.causes.cause import Cause, describe_failure
from ops.errors import Refused
from ops.stack.locks import Locked, parse_lock_owners
from ops.stack.pulumi_cli import ENVIRONMENT, PulumiCli

_COLOUR = re.compile(r"<\{%.*?%\}>")
_NOT_THE_CAUSE = re.compile(r"^(update failed|preview failed|update cancel.*|one or more errors occurred.*)$")
_ONLY_ONE = re.compile(r"^1 error occurred:\s*\* ")
_LOCAL_COMMAND = "command:local:Command"
_OWN_WORDS = re.compile(r"the ((issue|revoke) command of \w+|migrate command) failed: [^.\n]*\. [^\n]*")
"""What components/secret_slots.py and components/migration.py print instead of the output."""
_EXIT_CODE = re.compile(r"\A(?:exit status|the \w+ command ended with exit code) (\d+)")
_TOO_LONG = re.compile(r"longer than the resource's custom timeout|deadline exceeded")
OnEvent = Callable[[EngineEvent], object]
OnProcess = Callable[[int], object]


@dataclass(frozen=True)
class Failed:
    """A resource whose operation failed."""

    urn: str
    type: str
    """Its type token (`kubernetes:batch/v1:Job`)."""
    inputs: Mapping[str, Any]
    """As the program set them; the engine masks secrets."""


@dataclass
class Run:
    """What an update or preview did."""

    errors: list[str] = field(default_factory=list)
    touched: bool = False
    """Whether the change of any resource began; before that, a failure changed nothing."""
    changes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(operation, URN) of every change, in the order in which they began."""
    failed: list[Failed] = field(default_factory=list)
    """Resources whose operation failed."""
    causes: Sequence[Cause] = ()
    """Why, as found in the cluster; also part of `errors`."""
    exit_code: int = 0
    cancelled: bool = False
    _words: dict[str, list[str]] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0

    @property
    def interrupted(self) -> bool:
        """Ended by a signal or a cancellation, not by the program or a resource."""
        return self.exit_code < 0 or self.cancelled

    @property
    def why(self) -> str:
        """All errors."""
        return "\n".join(self.errors) or "the engine gave no reason"

    @property
    def gist(self) -> str:
        """The cause on one line."""
        if self.causes:
            return self.causes[0].line
        # The message of a traceback is its last line.
        why = self.why.strip()
        why = why.splitlines()[-1] if "Traceback (most recent call last)" in why else why
        return textwrap.shorten(why, 400, placeholder=" …")

    @property
    def what_failed(self) -> str:
        """The same for what is kept: `gist` may have what a command or pod printed, and so a secret."""
        return describe_failure([short_name(each.urn) for each in self.failed], self.causes)

    def record(self, event: EngineEvent) -> None:
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
        elif event.res_op_failed_event:
            step = event.res_op_failed_event.metadata
            state = step.new or step.old
            if state:
                self.failed.append(Failed(step.urn, state.type, state.inputs or {}))
        elif event.summary_event:
            self.changes = {str(op): count for op, count in event.summary_event.resource_changes.items()}
        elif event.diagnostic_event and event.diagnostic_event.severity == "error":
            self._error(event.diagnostic_event.message, event.diagnostic_event.urn)

    def words_about(self, failed: Failed) -> str:
        """The engine's messages about it."""
        return "\n".join(self._words.get(failed.urn, ()))

    def _error(self, text: str, urn: str | None) -> None:
        message = strip_colour(text).strip().removeprefix("error: ").strip()
        message = _hide_output(urn or "", _ONLY_ONE.sub("", message))
        if not message or _NOT_THE_CAUSE.match(message):
            return
        self._words.setdefault(urn or "", []).append(message)
        resource = short_name(urn) if urn and "pulumi:pulumi:Stack" not in urn else ""
        error = f"{resource}: {message}" if resource and resource not in message else message
        if error not in self.errors:
            self.errors.append(error)


def _hide_output(urn: str, message: str) -> str:
    """A message about a local command without what the command printed: that may contain a secret."""
    if not urn or not urn.split("::", 3)[2].endswith(_LOCAL_COMMAND):
        return message
    own = _OWN_WORDS.search(message)
    if not own and _TOO_LONG.search(message.partition("\n")[0]):
        return "the command was ended: it took longer than its timeout; its output is not kept"
    code = _EXIT_CODE.search(message)
    return own[0] if own else f"the command failed{f' (exit code {code[1]})' if code else ''}; its output is not kept"


def strip_colour(text: str) -> str:
    """Engine text without its colour marks."""
    return _COLOUR.sub("", text)


def short_name(urn: str) -> str:
    """`Job migrate` for `urn:pulumi:…$kubernetes:batch/v1:Job::migrate`."""
    types, name = urn.split("::", 3)[2:]
    return f"{types.rsplit('$', 1)[-1].rsplit(':', 1)[-1]} {name}"


class _Cli(PulumiCommand):
    """Runs the CLI itself: `PulumiCommand.run` returns when the process has ended, without its id.

    The id is needed while it runs: SIGTERM is forwarded to it, and the local lock records it.
    """

    running: subprocess.Popen[str] | None = None
    result: CommandResult | None = None
    environment: Mapping[str, str] = {}
    """What the engine and the program get besides."""
    on_start: OnProcess = staticmethod(lambda _: None)
    on_end: OnProcess = staticmethod(lambda _: None)

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,  # noqa: ARG002
        on_error: Callable[[str], Any] | None = None,  # noqa: ARG002
    ) -> CommandResult:
        with subprocess.Popen(
            [self.command, "--non-interactive", *args],
            cwd=cwd,
            env={**os.environ, **additional_env, **self.environment, "PULUMI_AUTOMATION_API": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self.running = process
            self.on_start(process.pid)
            stdout, stderr = process.communicate()
        if process.returncode >= 0:  # a killed one leaves its lock behind
            self.on_end(process.pid)
        self.result = CommandResult(stdout=stdout, stderr=stderr, code=process.returncode)
        if process.returncode != 0:
            raise create_command_error(self.result)
        return self.result

    def interrupt(self) -> None:
        if self.running and self.running.poll() is None:
            self.running.send_signal(signal.SIGINT)


class _Workspace(LocalWorkspace):
    def select_stack(self, stack_name: str) -> None:
        """Nothing: every command names its stack, and the stack that plain `pulumi` has selected must not change."""

    def stack_outputs(self, stack_name: str) -> OutputMap:  # noqa: ARG002
        """Nothing: `up` would read them in plain text when it has ended; the events contain them masked."""
        return {}


def _read_nothing(show_secrets: bool = True) -> UpdateSummary | None:  # noqa: ARG001
    """In place of `Stack.info`, which `up` calls when it has ended, and whose result is not used.

    It runs the engine a second time, to read the history (0.3 s with 1,000 updates in a bucket); where that fails, an
    update that succeeded would count as failed.
    """
    return UpdateSummary("update", datetime.now(UTC), "", {}, {}, "succeeded")


class Engine:
    """Updates and previews of one stack.

    `on_start` is called with the process id of each engine, and `on_end` when it was not killed.
    """

    def __init__(self, reader: PulumiCli, on_start: OnProcess, on_end: OnProcess) -> None:
        self._reader = reader
        self._cli = _Cli()
        self._cli.on_start, self._cli.on_end = on_start, on_end
        workspace = _Workspace(work_dir=str(reader.folder), pulumi_command=self._cli, env_vars=dict(ENVIRONMENT))
        self._stack = Stack.select(reader.stack, workspace)
        self._stack.info = _read_nothing

    def up(
        self, message: str, config_file: Path, on_event: OnEvent, environment: Mapping[str, str] | None = None
    ) -> Run:
        def work(see: OnEvent) -> None:
            self._stack.up(
                message=message,
                config_file=str(config_file),
                color="never",
                on_event=see,
                show_secrets=False,
                suppress_outputs=True,
                suppress_progress=True,
            )

        self._cli.environment = environment or {}
        try:
            return self._run(work, on_event)
        finally:
            self._cli.environment = {}

    def preview(self, config_file: Path, on_event: OnEvent) -> Run:
        def work(see: OnEvent) -> None:
            self._stack.preview(config_file=str(config_file), color="never", on_event=see, suppress_progress=True)

        return self._run(work, on_event)

    def _run(self, work: Callable[[OnEvent], None], on_event: OnEvent) -> Run:
        run = Run()

        def see(event: EngineEvent) -> None:
            run.record(event)
            on_event(event)

        try:
            with self._signals(run):
                work(see)
        except ConcurrentUpdateError as error:
            raise Locked(parse_lock_owners(str(error))) from None
        except CommandError:
            self._record_failure(run)
        return run

    def _record_failure(self, run: Run) -> None:
        result = self._cli.result
        run.exit_code = result.code if result else 1
        if run.exit_code < 0:
            run.errors.append(f"the engine was stopped by {signal.Signals(-run.exit_code).name}")
        elif run.cancelled:
            run.errors = ["it was cancelled"]  # plugins' messages about being stopped add nothing
        elif result and not run.errors:
            run.errors = [self._reader.explain(strip_colour(result.stderr.strip() or result.stdout.strip()))]

    @contextmanager
    def _signals(self, run: Run) -> Iterator[None]:
        """A terminal sends Ctrl-C to the engine too; SIGTERM has to be forwarded. The engine ends in order on both."""

        def stop(number: int, _frame: object) -> None:
            run.cancelled = True
            if number == signal.SIGTERM:
                self._cli.interrupt()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """End the update that runs as Ctrl-C does: in order, with the state written."""
        self._cli.interrupt()

    def import_or_forget(self, ids: Mapping[str, str], config_file: Path) -> None:
        """Resolve pending creates: import those with an id, forget the others. Refreshes every resource.

        By command line: `Stack.refresh` has no argument for `--import-pending-creates`.
        """
        pairs = [part for pair in ids.items() for value in pair for part in ("--import-pending-creates", value)]
        words = [
            "refresh", "--yes", "--skip-preview", "--clear-pending-creates", *pairs,
            "--config-file", str(config_file), "--message", "resolve what a killed run left pending",
            "--color", "never", "--stack", self._reader.stack,
        ]  # fmt: skip
        try:
            self._cli.run(words, str(self._reader.folder), ENVIRONMENT)
        except ConcurrentUpdateError as error:
            raise Locked(parse_lock_owners(str(error))) from None
        except CommandError:
            result = self._cli.result
            raise Refused(self._reader.explain(result.stderr or result.stdout if result else "")) from None
