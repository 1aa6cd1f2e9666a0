"""Commands in the application's container, beside the runner in the same pod.

The container runs components/maintenance_agent.py, a small shell loop. Both see one folder (MAINTENANCE_BOX) with two
named pipes: `todo`, by which this process asks, and `done`, by which the other answers.
"""

from __future__ import annotations

import os
import select
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.environment import Environment
from tasks.errors import TaskError
from tasks.maintenance_tasks import audit
from tasks.maintenance_tasks.context import Context, Outcome
from tasks.progress import say

BOX = "MAINTENANCE_BOX"
_STEP_SECONDS = 1.0
_MOST_BYTES = 32 * 2**20
"""Of a report that a command prints."""


def run_commands(context: Context) -> Outcome:
    """The command lines of the task, one after another; `command_failed` if one ends with another exit code than 0."""
    box = _box(context.environment)
    output = box / "output"
    code = 0
    for place, argv in enumerate(context.task.argvs, start=1):
        last = place == len(context.task.argvs)
        say(f"  {argv[0]} (its output is in the log of container `application`)")
        code = _run_one(context, box, argv, capture=last and context.task.report is not None)
        # An audit ends with 1 when it has found something.
        if code and not (last and context.task.report and code == 1):
            raise TaskError("command_failed", f"`{argv[0]}` ended with exit code {code}{_meaning(code)}")
    if context.task.report is None:
        return Outcome()
    size = output.stat().st_size if output.exists() else 0
    if size > _MOST_BYTES:
        raise TaskError("report_invalid", f"its report has {size} bytes; at most {_MOST_BYTES} are read")
    text = output.read_text(errors="replace") if output.exists() else ""
    return audit.parse(context.task.report, text, context.task.fail_on, exit_code=code)


def _box(environment: Environment) -> Path:
    return Path(environment.required(BOX, "/box"))


def _run_one(context: Context, box: Path, argv: Sequence[str], *, capture: bool) -> int:
    """Its exit code."""
    (box / "command").write_text(shlex.join(argv) + "\n")
    seconds = max(1, round(context.left))
    with _opened(box / "done") as done, _opened(box / "todo") as todo:
        _drain(done)

        def stop() -> None:
            os.write(todo, b"stop 0 0\n")

        with context.cancelled_by(stop):
            os.write(todo, f"run {seconds} {int(capture)}\n".encode())
            while True:
                # Longer than the command's own limit only if the container has gone.
                if select.select([done], [], [], _STEP_SECONDS)[0]:
                    answer = os.read(done, 100).decode().split()
                    if answer[:1] == ["started"]:
                        raise TaskError(
                            "container_restarted",
                            "the container of the application ended while the command ran: most often it needed more "
                            "memory than application.jobResources allows",
                        )
                    context.require_going()
                    return int(answer[1])
                if context.left < -30:
                    context.require_going()


@contextmanager
def _opened(pipe: Path) -> Iterator[int]:
    """For reading and writing, so that opening does not wait for the other side."""
    try:
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise TaskError(
            "agent_away", f"the application's container does not answer ({error.strerror}); its image needs /bin/sh"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _drain(pipe: int) -> None:
    """Answers to a command that was given up."""
    while select.select([pipe], [], [], 0)[0]:
        os.read(pipe, 4096)


def _meaning(code: int) -> str:
    return {124: " (its time was over)", 126: " (it cannot be run)", 127: " (there is no such program)"}.get(code, "")
