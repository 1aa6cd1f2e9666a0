"""The command line itself: help, exit codes, what goes to stdout."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from ops import errors
from ops.adapters.task_jobs import TaskFailed
from ops.causes.cause import Cause
from ops.cli import main
from ops.cli.common import Invocation
from settings import Maintenance

COMMANDS = [
    ["deploy"],
    ["rollback"],
    ["history"],
    ["diff"],
    ["status"],
    ["check"],
    ["check-code"],
    ["go-live"],
    ["quarantine", "list"],
    ["quarantine", "lift"],
    ["backup", "now"],
    ["backup", "list"],
    ["backup", "verify"],
    ["backup", "cleanup"],
    ["backup", "evidence", "verify"],
    ["backup", "evidence", "begin-anew"],
    ["restore", "status"],
    ["restore", "start"],
    ["restore", "undo"],
    ["restore", "finish"],
    ["maintenance", "on"],
    ["maintenance", "off"],
    ["maintenance", "status"],
    ["maintenance", "enable"],
    ["maintenance", "disable"],
    ["system", "restart"],
    ["performance", "emergency-cache-clear"],
    ["performance", "emergency-optimization"],
    ["logs", "tail"],
    ["logs", "search"],
    ["debug", "performance"],
    ["debug", "database"],
    ["debug", "security"],
    ["debug", "rate-limiting"],
    ["metrics"],
    ["incident", "start"],
    ["incident", "note"],
    ["incident", "assess"],
    ["incident", "workaround"],
    ["incident", "escalate"],
    ["incident", "resolve"],
    ["incident", "list"],
    ["incident", "show"],
    ["incident", "watch"],
    ["incident", "actions"],
    ["incident", "action-done"],
    ["incident", "remind"],
    ["incident", "procedures"],
    ["monitoring", "enhanced-mode"],
    ["emergency", "assess-damage"],
    ["emergency", "restore-service"],
    ["maintenance", "run"],
    ["maintenance", "report"],
    ["check-docs"],
    ["rotate", "status"],
    ["rotate", "start"],
    ["rotate", "due"],
    ["rotate", "emergency"],
    ["rotate", "repair"],
    ["secrets", "lint"],
    ["secrets", "provider"],
    ["security", "lockdown"],
    ["security", "unlock"],
    ["security", "status"],
    ["init"],
    ["doctor"],
    ["promote"],
    ["state", "init"],
    ["state", "list"],
    ["state", "restore"],
    ["state", "copy"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: list[str]) -> None:
    shown = CliRunner().invoke(main.app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"runbook {' '.join(command)}" in shown.output
    assert "--json" in shown.output


def test_the_list_is_of_every_command_the_most_important_first() -> None:
    shown = CliRunner().invoke(main.app, ["--help"]).output
    words = dict.fromkeys(command[0] for command in COMMANDS)
    listed = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert listed[:3] == ["deploy", "rollback", "status"]
    assert set(listed) == set(words)
    assert "--install-completion" in shown


def test_version() -> None:
    assert CliRunner().invoke(main.app, ["--version"]).stdout == f"runbook {version('runbook')}\n"


@pytest.mark.parametrize(
    "command",
    [
        ["deploy"],
        ["rollback"],
        ["quarantine", "lift"],
        ["backup", "cleanup"],
        ["backup", "evidence", "begin-anew"],
        ["restore", "start"],
        ["restore", "undo"],
        ["restore", "finish"],
        ["maintenance", "on"],
        ["maintenance", "enable"],
        ["system", "restart"],
        ["performance", "emergency-cache-clear"],
        ["performance", "emergency-optimization"],
        ["rotate", "start"],
        ["rotate", "emergency"],
        ["rotate", "repair"],
        ["secrets", "provider"],
        ["security", "lockdown"],
        ["security", "unlock"],
    ],
    ids=" ".join,
)
def test_what_is_dangerous_takes_yes(command: list[str]) -> None:
    assert "--yes" in CliRunner().invoke(main.app, [*command, "--help"]).output


@pytest.mark.parametrize(
    ("given", "question"),
    [
        (["deploy", "r.example.com/shop:1", "--allow-downtime"], "Deploy r.example.com/shop:1 and accept downtime?"),
        (
            ["deploy", "x", "--without-proof", "a", "--allow-quarantined", "b"],
            "a quarantined image and no proven backup?",
        ),
        (["quarantine", "lift", "3f2a9c"], "Let 3f2a9c be deployed again?"),
        (["restore", "undo"], "Put the database from before the restore back?"),
        (["restore", "finish"], "Drop the database"),
        (["maintenance", "on", "why"], "Show every customer the maintenance page?"),
        (["rotate", "start", "jwt-secret", "--no-overlap"], "without an overlap?"),
        (["secrets", "provider", "passphrase"], "Encrypt stack dev by passphrase?"),
    ],
)
def test_without_a_terminal_and_yes_nothing_dangerous_runs(
    given: list[str], question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.stack.session.open_session", lambda *_: SimpleNamespace(stack="dev"))
    shown = CliRunner().invoke(main.app, given)
    assert shown.exit_code == 2
    assert question in shown.stderr
    assert "add --yes" in shown.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("system:restart", "maintenance:enable", "maintenance:disable", "security:lockdown", "security:unlock"),
        *("performance:emergency-cache-clear", "performance:emergency-optimization", "logs:tail", "logs:search"),
        *("debug:performance", "debug:database", "debug:security", "debug:rate-limiting"),
        *("status:health", "status:performance", "status:security"),
        *("incident:start", "incident:assess", "incident:workaround", "monitoring:enhanced-mode"),
        *("emergency:assess-damage", "emergency:restore-service"),
        *("metrics:business", "metrics:conversion", "metrics:revenue"),
    ],
)
def test_the_runbooks_own_name_is_the_command(name: str) -> None:
    """Every line of HerbisVeritas "Quick Reference Commands"."""
    shown = CliRunner().invoke(main.app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    words = " ".join(name.split(":")) if name.split(":")[0] not in ("status", "metrics") else name.split(":")[0]
    assert f"Usage: runbook {words}" in shown.output.replace("root", "runbook")


def test_a_name_with_a_colon_that_is_no_command_is_refused() -> None:
    assert CliRunner().invoke(main.app, ["alerts:send"]).exit_code == 2
    assert CliRunner().invoke(main.app, ["system:stop"]).exit_code == 2


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

    monkeypatch.setattr("ops.stack.session.open_session", fail)
    shown = CliRunner().invoke(main.app, ["history", "--json"])
    assert shown.exit_code == code
    assert json.loads(shown.stdout) == {"result": word, "error": "what is wrong", "causes": [CAUSE.to_dict()]}
    assert CAUSE.to_dict()["exitCode"] == 1
    assert shown.stderr == "error: what is wrong\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["start", "20260816", "--into", "new", "--in-place"], "--into NEW restores into a new database"),
        (["start", "20260816"], "--in-place replaces the live one"),
        (["start", "--in-place"], "Missing argument 'ID'"),
        (["undo", "20260816"], "unexpected extra argument"),
    ],
)
def test_a_restore_says_which_options_it_wants(given: list[str], said: str) -> None:
    shown = CliRunner().invoke(main.app, ["restore", *given])
    assert shown.exit_code == 2
    assert said in shown.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("restore", "restore status"),
        ("restore --json", "restore status --json"),
        ("restore 2026 --into new", "restore start 2026 --into new"),
        ("restore --stack dev 2026 --in-place --yes", "restore start --stack dev 2026 --in-place --yes"),
        ("restore --undo --yes", "restore undo --yes"),
        ("restore --yes --finish", "restore finish --yes"),
        ("rotate jwt-secret --no-overlap", "rotate start jwt-secret --no-overlap"),
        ("rotate --due --yes", "rotate due --yes"),
        ("rotate --emergency --reason 'a leak'", "rotate emergency --reason 'a leak'"),
        ("rotate --json status", "rotate status --json"),
    ],
)
def test_old_spellings_run_the_new_command_with_a_hint(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise errors.Refused("no session")

    monkeypatch.setattr("ops.stack.session.open_session", fail)
    shown = CliRunner().invoke(main.app, shlex.split(old))
    again = CliRunner().invoke(main.app, shlex.split(new))
    hint = f"hint: this spelling is old; the new one is `runbook {new}`\n"
    assert shown.stderr == hint + again.stderr
    assert (shown.exit_code, shown.stdout) == (again.exit_code, again.stdout)
    assert again.stderr == "error: no session\n"


def test_maintenance_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.stack.session.open_session", lambda *_: SimpleNamespace(file=None))
    settings = SimpleNamespace(maintenance=None)
    monkeypatch.setattr("ops.commands.maintenance.load_settings", lambda _: settings)
    off = CliRunner().invoke(main.app, ["maintenance", "status", "--json"])
    assert (off.exit_code, json.loads(off.stdout)) == (0, {"state": "off", "maintenance": None})
    settings.maintenance = Maintenance(reason="a move")
    on = CliRunner().invoke(main.app, ["maintenance", "status", "--json"])
    found = json.loads(on.stdout)
    assert (on.exit_code, found["state"], found["maintenance"]["reason"]) == (1, "on", "a move")
    assert CliRunner().invoke(main.app, ["maintenance", "status"]).stdout == "Maintenance mode is on: a move\n"


def test_json_keys_are_of_one_style_and_those_of_before_stay_in_the_list_of_backups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test = {"result": "passed", "rto_seconds": 3}
    backup = {"id": "20260816", "proven_at": None, "last_test": test, "tables": {"order_items": 2}}
    monkeypatch.setattr("ops.stack.session.open_session", lambda *_: None)
    monkeypatch.setattr("ops.commands.backups.list_backups", lambda _: [backup])
    (row,) = json.loads(CliRunner().invoke(main.app, ["backup", "list", "--json"]).stdout)
    assert row == backup | {"provenAt": None, "lastTest": {"result": "passed", "rtoSeconds": 3}}
    assert "order_items" in row["tables"], "names of tables are no keys"
    monkeypatch.setattr("ops.commands.backups.create_backup", lambda _: {"id": "1", "size_bytes": 5, "tables": {}})
    assert json.loads(CliRunner().invoke(main.app, ["backup", "now", "--json"]).stdout).keys() == {
        "id", "sizeBytes", "tables",
    }  # fmt: skip


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


class EvidenceTasks:
    """The chain in the cluster: broken until it begins anew."""

    def __init__(self, *, broken: bool) -> None:
        self.broken, self.reasons = broken, list[str]()

    def run(self, *words: str) -> dict[str, object]:
        if words == ("evidence", "verify"):
            if self.broken:
                raise TaskFailed("evidence/00000002.json: a record was removed", "evidence_broken")
            return {"records": 3, "passed": 3, "failed": 0, "head": "ab"}
        assert words[:3] == ("evidence", "begin-anew", "--reason")
        self.reasons.append(words[3])
        return {"sequence": 4, "result": "begun anew"}


@pytest.mark.parametrize("broken", [True, False])
def test_evidence_begins_anew_only_after_a_break_and_when_it_is_confirmed(
    broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = EvidenceTasks(broken=broken)
    monkeypatch.setenv("RUNBOOK_USER", "alice")
    monkeypatch.setattr("ops.stack.session.open_session", lambda *_: SimpleNamespace(stack="dev"))
    monkeypatch.setattr("ops.commands.backups.tasks_of", lambda _: tasks)
    shown = CliRunner().invoke(main.app, ["backup", "evidence", "verify", "--json"])
    assert (shown.exit_code, json.loads(shown.stdout)["intact"]) == (int(broken), not broken)
    words = ["backup", "evidence", "begin-anew", "--reason", "the bucket was moved", "--json"]
    asked = CliRunner().invoke(main.app, words)
    assert asked.exit_code == 2
    assert ("00000002.json: a record was removed" in asked.stderr) is broken
    assert ("add --yes" in asked.stderr) is broken
    assert not tasks.reasons
    done = CliRunner().invoke(main.app, [*words, "--yes"])
    if broken:
        assert json.loads(done.stdout)["sequence"] == 4
        assert tasks.reasons[0].startswith("the bucket was moved (by alice@")
    else:
        assert done.exit_code == 2
        assert not tasks.reasons


def test_only_the_command_that_is_called_is_built() -> None:
    def built(*words: str) -> list[str]:
        app = typer.Typer()
        app.registered_commands = list(main.app.registered_commands)
        app.registered_groups = list(main.app.registered_groups)
        main.build_only(app, words)
        return [each.name or "" for each in (*app.registered_commands, *app.registered_groups)]

    assert built("history", "--json") == ["history"]
    assert built("state", "list") == ["state"]
    assert built("status:health") == ["status"]
    everything = built()
    assert len(everything) > 20
    for words in (["--help"], ["--version"], ["histroy"], ["--stack", "history"]):
        assert built(*words) == everything


def test_of_a_list_each_item_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"revision": 2, "schema": {"min": 1}}, {"revision": 1, "schema": None}]
    Invocation(as_json=True).show(rows, "")
    printed = capsys.readouterr().out
    assert json.loads(printed) == rows
    assert len(printed.splitlines()) == len(rows) + 2
    Invocation(as_json=True).show([], "")
    assert json.loads(capsys.readouterr().out) == []
