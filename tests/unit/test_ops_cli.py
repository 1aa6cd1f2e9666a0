"""The command line itself: help, exit codes, what goes to stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops import errors
from ops.causes.cause import Cause
from ops.cli import main

COMMANDS = [
    ["deploy"],
    ["rollback"],
    ["history"],
    ["diff"],
    ["status"],
    ["quarantine", "list"],
    ["quarantine", "lift"],
    ["backup", "now"],
    ["backup", "list"],
    ["backup", "verify"],
    ["backup", "cleanup"],
    ["restore"],
    ["maintenance", "on"],
    ["maintenance", "off"],
    ["rotate"],
    ["secrets", "lint"],
    ["secrets", "provider"],
    ["security", "lockdown"],
    ["security", "unlock"],
    ["security", "status"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(main.app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"runbook {' '.join(command)}" in shown.output


@pytest.mark.parametrize("command", ["deploy", "rollback", "status"])
def test_exit_codes_are_documented(command: str) -> None:
    shown = " ".join(CliRunner().invoke(main.app, [command, "--help"]).output.split())
    assert "Exit codes: 0 " in shown


CAUSE = Cause("Job m", "Job m failed: pod m-1, container m exited with code 1", exit_code=1, log=["no such column"])


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (errors.RolledBack, 1, "rolledBack"),
        (errors.Refused, 2, "refused"),
        (errors.Stuck, 3, "failed"),
        (errors.Interrupted, 4, "interrupted"),
    ],
)
def test_an_error_is_one_message_and_its_exit_code(
    error: type[errors.OpsError], code: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("what is wrong", [CAUSE])

    monkeypatch.setattr(main, "open_session", fail)
    shown = CliRunner().invoke(main.app, ["history", "--json"])
    assert shown.exit_code == code
    assert json.loads(shown.stdout) == {"result": word, "error": "what is wrong", "causes": [CAUSE.to_dict()]}
    assert CAUSE.to_dict()["exitCode"] == 1
    assert shown.stderr == "error: what is wrong\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["20260816", "--into", "new", "--in-place"], "Give one of"),
        (["20260816"], "--into NEW or --in-place"),
        (["--in-place"], "Give the backup's ID"),
        (["20260816", "--undo"], "--into NEW or --in-place"),
    ],
)
def test_a_restore_says_which_options_it_wants(given: list[str], said: str) -> None:
    shown = CliRunner().invoke(main.app, ["restore", *given])
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_folder_without_a_project(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main.app, ["history", "--cwd", str(tmp_path)])
    assert shown.exit_code == 2
    assert "no Pulumi.yaml" in shown.stderr


def test_reading_commands_do_not_load_the_automation_api_or_the_models() -> None:
    import subprocess
    import sys

    looked_for = "[m for m in ('pulumi', 'settings') if m in sys.modules]"
    code = f"import ops.cli.main, ops.cli.formatting, ops.stack.session, sys; print({looked_for})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
