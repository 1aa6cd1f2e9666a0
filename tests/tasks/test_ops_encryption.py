"""`runbook secrets provider` on a real engine: another passphrase, and neither value nor comment is lost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from ops.commands import encryption
from ops.errors import Refused
from ops.stack.session import Session
from tests.support.stack_session import POLICY, create_session, needs_engine, pulumi

PROGRAM = """
import pulumi
import pulumi_random as random

pulumi.export("made", random.RandomPassword("made", length=20).result)
"""
NAME = "secrets:STRIPE_SECRET_KEY"

pytestmark = needs_engine


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    return create_session(tmp_path, monkeypatch, PROGRAM)


def read(session: Session, passphrase: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PULUMI_CONFIG_PASSPHRASE": passphrase}
    command = ["pulumi", "--non-interactive", *words, "--stack", session.stack]
    return subprocess.run(
        command, cwd=session.reader.folder, capture_output=True, text=True, env=environment, check=False
    )


def test_another_passphrase(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pulumi(session.reader.folder, "up", "--yes", "--skip-preview", "--stack", session.stack)
    made = read(session, "right", "stack", "output", "made", "--show-secrets").stdout
    # At a path that is not the engine's default, as in the sandbox, and with comments.
    elsewhere = tmp_path / "kept.yaml"
    elsewhere.write_text("# ours\n" + session.file.read_text())
    session.file.unlink()
    monkeypatch.setenv("PULUMI_OPTION_CONFIG_FILE", str(elsewhere))
    session.file = elsewhere
    before = yaml.safe_load(elsewhere.read_text())

    assert encryption.change_provider(session, "passphrase", "another", POLICY)["result"] == "succeeded"

    after = yaml.safe_load(elsewhere.read_text())
    assert elsewhere.read_text().startswith("# ours\n")
    assert after["config"].keys() == before["config"].keys()
    assert after["config"][NAME] != before["config"][NAME]
    assert read(session, "another", "config", "get", NAME).stdout.strip() == "canary-STRIPE_SECRET_KEY"
    assert read(session, "right", "config", "get", NAME).returncode != 0
    assert read(session, "another", "stack", "output", "made", "--show-secrets").stdout == made


def test_what_is_no_provider_changes_nothing(session: Session) -> None:
    before = session.file.read_bytes()
    with pytest.raises(Refused, match="is no secrets provider: give one of passphrase, awskms://"):
        encryption.change_provider(session, "base64key://c2VjcmV0", None, POLICY)
    assert session.file.read_bytes() == before
