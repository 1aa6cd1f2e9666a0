"""What a command that handles a secret prints is kept nowhere: `runbook rotate` on a real engine, with a canary."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from ops.cli.main import app
from ops.stack.history import RELEASE, ROTATED
from ops.stack.session import Session
from tests.support.stack_session import (
    CANARY,
    ROOT,
    FakeCluster,
    create_session,
    needs_engine,
    places_with,
    preview_changes,
    pulumi,
    read_config,
)
from tests.tasks.test_ops_rotation import RELEASED

pytestmark = needs_engine

NAME = "STRIPE_SECRET_KEY"
PROGRAM = f"""
import json, os
import pulumi
from components.rotation import _describe
from components.secret_slots import register_external_secret
from settings import config

settings, secrets = config.read()
holder = pulumi.ComponentResource("test:Holder", "holder")
rotations = settings.rotations()
pair = rotations["{NAME}"] if "BACKUP_S3" not in rotations else rotations["BACKUP_S3"]
for rotating in {{pair.name: pair, "{NAME}": rotations["{NAME}"]}}.values():
    for period, values in register_external_secret(holder, rotating, secrets).items():
        for place, value in enumerate(values):
            pulumi.export(f"{{rotating.name}}-{{period}}-{{place}}", value.value)
# What the ConfigMap and the metrics show.
pulumi.export("status", json.dumps([_describe(each) for _, each in sorted(rotations.items())]))
"""
LOUD = {
    "fails": "cat key; cat key >&2; exit 3",
    "fails after it sent its output to the terminal too": "cat key key | tee /dev/stderr; false",
    "prints nothing on stdout": "cat key >&2",
    "is no command line of a shell": "cat key; cat key >&2; exit (",
    "has the key in its arguments": f"echo {CANARY} && cat key && exit 7",
}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    opened = create_session(tmp_path, monkeypatch, PROGRAM)
    monkeypatch.setattr(FakeCluster, "level", 1)
    (opened.reader.folder / "key").write_text(f"{CANARY}\n")
    return opened


def configure(session: Session, **changes: Any) -> None:
    document = yaml.safe_load(session.file.read_text())
    document["config"] |= {RELEASE: RELEASED, **changes}
    session.file.write_text(yaml.safe_dump(document, sort_keys=False))
    pulumi(session.reader.folder, "up", "--yes", "--skip-preview", "--stack", "dev")


def rotate(session: Session, *words: str) -> Result:
    """The command, as an operator runs it."""
    cwd = str(session.reader.folder)
    return CliRunner().invoke(app, ["rotate", "start", *words, "--cwd", cwd, "--stack", "dev", "--yes"])


@contextmanager
def argument_lists() -> Iterator[set[str]]:
    """The argument lists of all processes, for as long as the block lasts.

    A process is read at every look for a second, as it may still start its program, then once a second: to read
    all of them at every look would take so much of the machine that the command takes twice as long.
    """
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        began: dict[Path, float] = {}
        looks = 0
        while not over.wait(0.01):
            now, looks = time.monotonic(), looks + 1
            began = {folder: began.get(folder, now) for folder in Path("/proc").glob("[0-9]*")}
            for process, since in began.items():
                if now - since < 1 or looks % 100 == 0:
                    with suppress(OSError):
                        seen.add((process / "cmdline").read_text(errors="replace"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("how", "as_json"), [("fails", True), *((how, False) for how in LOUD)])
def test_a_failing_issue_command_leaves_its_output_nowhere(
    session: Session, tmp_path: Path, how: str, as_json: bool
) -> None:
    issue = LOUD[how]
    configure(session, **{"runbook:rotation": {"secrets": {NAME: {"issue": issue, "revoke": "touch revoked"}}}})
    with argument_lists() as seen:
        done = rotate(session, "stripe-secret", *(["--json"] if as_json else []))
    said = done.stdout + done.stderr
    assert done.exit_code == 1, said
    assert CANARY not in said
    assert f"the issue command of {NAME} failed" in said
    assert "run the command in a terminal" in said
    now = read_config(session)[ROTATED][NAME]
    assert (now["phase"], now["failure"]) == ("failed", "Command stripe-secret-key-1 failed")
    found = places_with(CANARY, tmp_path)
    if CANARY in issue:
        # The operator wrote it into the stack file, whose settings each entry of the history repeats.
        found = [place for place in found if not place.startswith("backend/.pulumi/history")]
        found.remove("project/Pulumi.dev.yaml")
        assert CANARY not in str(now)
    assert found == ["project/key"]
    assert not [words for words in seen if CANARY in words]
    assert preview_changes(session) == {}, "the previous value is in use, and nothing is left to be done"
    assert not (session.reader.folder / "revoked").exists(), "it is in use"


def test_an_issue_command_that_takes_too_long_is_ended_and_leaves_its_output_nowhere(
    session: Session, tmp_path: Path
) -> None:
    """With what it started, also when that ignores the signal."""
    (session.reader.folder / "slow").write_text(
        "trap '' TERM; cat key; cat key >&2; sleep 600 & echo $! $$ > pids; wait"
    )
    policy = {"issue": "sh slow", "revoke": "touch revoked", "issueSeconds": 2}
    configure(session, **{"runbook:rotation": {"secrets": {NAME: policy}}})
    done = rotate(session, "stripe-secret")
    said = done.stdout + done.stderr
    assert done.exit_code == 1, said
    assert "it took longer than its timeout" in said
    assert CANARY not in said
    assert read_config(session)[ROTATED][NAME]["failure"] == "Command stripe-secret-key-1 failed"
    assert places_with(CANARY, tmp_path) == ["project/key"]
    pids = (session.reader.folder / "pids").read_text().split()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        assert time.monotonic() < deadline, "a process of the command still runs"
        threading.Event().wait(0.05)


def test_garbage_of_a_command_that_succeeds_is_kept_nowhere(session: Session, tmp_path: Path) -> None:
    """It should print a pair as JSON. The value is not used, and the revoke command ends it."""
    secrets = session.reader.folder
    for key in ("BACKUP_S3_ACCESS_KEY_ID", "BACKUP_S3_SECRET_ACCESS_KEY"):
        pulumi(secrets, "config", "set", "--secret", f"secrets:{key}", "first", "--stack", "dev")
    backup = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())["config"]["runbook:backup"]
    policy = {
        "issue": "cat key; echo no JSON",
        "revoke": 'echo "$PULUMI_COMMAND_STDOUT" > revoked; cat key; cat key >&2',
    }
    configure(session, **{"runbook:backup": backup, "runbook:rotation": {"secrets": {"BACKUP_S3": policy}}})
    done = rotate(session, "backup-s3")
    assert done.exit_code == 1, done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "the issue command has to print" in done.stderr
    assert (secrets / "revoked").read_text() == f"{CANARY}\nno JSON\n", "and not the value that is in use"
    assert places_with(CANARY, tmp_path) == ["project/key", "project/revoked"]


def test_a_failing_revoke_command_leaves_its_output_nowhere(session: Session, tmp_path: Path) -> None:
    """Its input is the value that it ends."""
    policy = {"issue": "cat key", "revoke": 'echo "$PULUMI_COMMAND_STDOUT" >&2; cat key; exit 9'}
    configure(session, **{"runbook:rotation": {"secrets": {NAME: policy}}})
    with argument_lists() as seen:
        done = rotate(session, "stripe-secret", "--no-overlap")
    said = done.stdout + done.stderr
    assert done.exit_code == 1, said
    assert f"the revoke command of {NAME} failed: exit code 9" in said
    assert CANARY not in said
    assert f"canary-{NAME}" not in said
    assert places_with(CANARY, tmp_path) == ["project/key"]
    assert places_with(f"canary-{NAME}", tmp_path) == []
    assert not [words for words in seen if CANARY in words]
