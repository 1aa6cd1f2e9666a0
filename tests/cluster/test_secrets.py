"""A planted secret is found nowhere but where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.paths import STATE
from tests.cluster.stack import Stack

BACKUPS = True
CANARY = "canary-5f0c2e-in-the-coal-mine"
ROTATED = "canary-81d7aa-in-the-next-mine"


@pytest.fixture(scope="module")
def planted(stack: Stack, images: dict[str, str]) -> Stack:
    """A release that carries the canary, one that fails with it, a rollback across it, a rotation that replaces it."""
    stack.run(
        "pulumi",
        "config",
        "set",
        "--secret",
        "secrets:STRIPE_SECRET_KEY",
        "--stack",
        stack.name,
        stdin=CANARY,
    ).check()
    stack.runbook("deploy", images["shop:v2"], "--yes", "--without-proof", "a test of something else").check()
    failed = stack.runbook("deploy", images["shop:v7-bad-smoke"], "--yes")
    assert failed.code == 1, failed.text
    assert CANARY not in failed.text
    stack.runbook("rollback", "--yes").check()
    before.extend(secrets_in_use(stack))
    names = ("STRIPE_SECRET_KEY", "JWT_SECRET", "DATABASE_URL")
    rotated = stack.run("runbook", "rotate", *names, "--yes", stdin=ROTATED).check()
    assert ROTATED not in rotated.text
    return stack


before: list[str] = []
"""What was in use before the rotation."""


def secrets_in_use(stack: Stack) -> list[str]:
    """Every secret value of the stack; also those from before."""
    return [*stack.secret_values() | {*before}]


def test_the_pods_have_it(planted: Stack) -> None:
    assert {CANARY, ROTATED} <= {*secrets_in_use(planted)}


def test_neither_the_state_nor_its_history_has_any_secret_in_clear(planted: Stack) -> None:
    values = secrets_in_use(planted)
    assert len(values) > 5
    exported = planted.run("pulumi", "stack", "export", "--stack", planted.name, config_file=False).check().out
    files = [path for path in Path(STATE / "backend").rglob("*") if path.is_file() and planted.name in path.as_posix()]
    assert any("history" in path.as_posix() for path in files)
    for where, text in [
        ("stack export", exported),
        *((str(path), path.read_text(errors="replace")) for path in files),
    ]:
        for value in values:
            assert value not in text, f"a secret of {len(value)} characters stands in clear in {where}"


@pytest.mark.parametrize(
    "command",
    [
        ("runbook", "history", "--json"),
        ("runbook", "status"),
        ("runbook", "status", "--json"),
        ("runbook", "diff", "1"),
        ("pulumi", "preview", "--diff", "--non-interactive"),
        ("pulumi", "stack", "output", "--json"),
        ("kubectl", "get", "events", "-A"),
        ("kubectl", "get", "deployments,statefulsets,jobs,pods,configmaps", "-A", "-o", "yaml"),
    ],
    ids=" ".join,
)
def test_no_command_prints_a_secret(planted: Stack, command: tuple[str, ...]) -> None:
    stack_option = ["--stack", planted.name] if command[0] == "pulumi" else []
    done = planted.run(*command, *stack_option).check()
    for value in secrets_in_use(planted):
        assert value not in done.text


def test_no_log_of_a_pod_and_no_argument_list_has_one(planted: Stack) -> None:
    pods = planted.kubectl("get", "pods", "-o", "name").split()
    logs = "".join(planted.kubectl("logs", pod, "--all-containers") for pod in pods)
    arguments = "".join(
        path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    )
    assert len(logs) > 1000
    for value in secrets_in_use(planted):
        assert value not in logs
        assert value not in arguments
