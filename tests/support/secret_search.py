"""Searches a stack for leaked secrets when its tests have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ops.stack.state_files import open_state_files, unpack
from tests.support.cluster_stack import Stack

_COMMANDS = (
    ("runbook", "history", "--json"),
    ("runbook", "status"),
    ("runbook", "status", "--json"),
    ("runbook", "diff", "1"),
    ("pulumi", "preview", "--diff", "--non-interactive"),
    ("pulumi", "stack", "output", "--json"),
    ("kubectl", "get", "events", "-A"),
    ("kubectl", "get", "deployments,statefulsets,jobs,pods,configmaps", "-A", "-o", "yaml"),
)


def assert_secrets_stay_secret(stack: Stack, messages: Sequence[str] = ()) -> None:
    """Of all that it has, or had when they were read before, including what was planted in it or printed by commands.

    `messages`: what its receivers of notifications got.
    """
    values = stack.secret_values()
    assert set(stack.planted) <= values, "the pods do not have what was planted"
    assert len(values) > 5
    values |= set(stack.printed)
    for where, text in (*_read_places(stack), *(("a notification", text) for text in messages)):
        for value in values:
            assert value not in text, f"a secret of {len(value)} characters is in clear in {where}"


def _read_places(stack: Stack) -> Iterator[tuple[str, str]]:
    yield "stack export", stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().out
    yield from _read_state(stack)
    yield "the stack file, which git gets", stack.file.read_text()
    for command in _COMMANDS:
        of_stack = ["--stack", stack.name] if command[0] == "pulumi" else []
        yield " ".join(command), stack.run(*command, *of_stack).check().text
    # Of every pod; one that is just being started has nothing to say yet, which is no error.
    every_pod = ["--selector=!no-such-label", "--all-containers", "--tail=-1", "--ignore-errors"]
    logs = stack.kubectl("logs", *every_pod)
    assert len(logs) > 1000
    yield "logs", logs
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield str(path), path.read_text(errors="replace")
        except OSError:  # ended meanwhile
            continue


def _read_state(stack: Stack) -> Iterator[tuple[str, str]]:
    """Checkpoint, backups of it and every update of the history, in a folder or on S3, as the engine wrote them."""
    files = open_state_files(stack.backend or os.environ["PULUMI_BACKEND_URL"])
    assert files is not None
    of_stack = {
        "stacks/runbook": [name for name in files.names("stacks/runbook") if name.startswith(f"{stack.name}.json")],
        **{
            folder: files.names(folder)
            for folder in (f"{kind}/runbook/{stack.name}" for kind in ("history", "backups"))
        },
    }
    for folder, names in of_stack.items():
        assert names, f"the state has no {folder}"
        for content in files.read(folder, names):
            yield f"state: {folder}", unpack(content).decode(errors="replace")
