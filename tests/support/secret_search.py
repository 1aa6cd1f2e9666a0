"""Searches a stack for leaked secrets when its tests have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sandbox.paths import STATE
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


def assert_secrets_stay_secret(stack: Stack) -> None:
    """Of all that it has, or had when they were read before, including what was planted in it."""
    values = stack.secret_values()
    assert set(stack.planted) <= values, "the pods do not have what was planted"
    assert len(values) > 5
    for where, text in _read_places(stack):
        for value in values:
            assert value not in text, f"a secret of {len(value)} characters is in clear in {where}"


def _read_places(stack: Stack) -> Iterator[tuple[str, str]]:
    yield "stack export", stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().out
    # Other stacks use it meanwhile: objects that disappear are skipped.
    every = (Path(folder, name) for folder, _, names in os.walk(STATE / "backend") for name in names)
    kept = [path for path in every if stack.name in path.as_posix()]
    assert any("history" in path.as_posix() for path in kept)
    for path in kept:
        yield str(path), path.read_text(errors="replace")
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
