"""Slots with a real engine: what is made, kept, issued and revoked from one phase of a rotation to the next."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.stack_session import ROOT, create_session, needs_engine, pulumi
from tests.unit.test_settings_rotation import state

pytestmark = needs_engine

PROGRAM = """
import pulumi
from components.secret_slots import generate_password, register_external_secret
from settings import config

settings, secrets = config.read()
rotations = settings.rotations()
holder = pulumi.ComponentResource("test:Holder", "holder")
key, webhook = rotations["JWT_SECRET"], rotations["STRIPE_WEBHOOK_SECRET"]
pulumi.export("key", {str(period): generate_password(holder, "jwt-secret", period) for period in key.periods})
values = register_external_secret(holder, webhook, secrets)
pulumi.export("webhook", {str(period): value.value for period, (value,) in values.items()})
"""
ISSUE = "printf 'issued-%s\\n' $(($(wc -l < issued) + 1)) | tee -a issued"
REVOKE = 'echo "$PULUMI_COMMAND_STDOUT" >> revoked'


class Stack:
    """The program's stack, and what it was seen to do."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        self._session = create_session(tmp_path, monkeypatch, PROGRAM)
        self._folder = tmp_path / "project"
        self.shown = ""
        (self._folder / "issued").touch()
        (self._folder / "revoked").touch()

    def up(self, key: dict[str, Any] | None, webhook: dict[str, Any] | None, issue: str = ISSUE) -> None:
        document = yaml.safe_load(self._session.file.read_text())
        rotated = {"JWT_SECRET": key, "STRIPE_WEBHOOK_SECRET": webhook}
        document["config"]["runbook:rotated"] = {name: now for name, now in rotated.items() if now}
        policy = {"issue": issue, "revoke": REVOKE}
        document["config"]["runbook:rotation"] = {"secrets": {"STRIPE_WEBHOOK_SECRET": policy}}
        self._session.file.write_text(yaml.safe_dump(document, sort_keys=False))
        words = ("up", "--yes", "--skip-preview", "--stack", "dev", "--diff")
        done = subprocess.run(["pulumi", "--non-interactive", *words], cwd=self._folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.shown += done.stdout + done.stderr

    def output(self, name: str) -> dict[str, str]:
        return json.loads(pulumi(self._folder, "stack", "output", name, "--json", "--show-secrets", "--stack", "dev"))

    def lines(self, file: str) -> list[str]:
        return [line for line in (self._folder / file).read_text().splitlines() if line]

    @property
    def exported(self) -> str:
        return pulumi(self._folder, "stack", "export", "--stack", "dev")


def test_values_live_as_long_as_their_periods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path, monkeypatch)
    first = "canary-STRIPE_WEBHOOK_SECRET"
    stack.up(None, None)
    keys = stack.output("key")
    assert stack.output("webhook") == {"0": first}
    assert stack.lines("issued") == []

    stack.up(state("pending"), state("pending"))
    both = stack.output("key")
    assert both["0"] == keys["0"], "what is in use stays"
    assert both["1"] != both["0"]
    assert stack.output("webhook") == {"0": first, "1": "issued-1"}

    # Another command line is for the next value: this one is in use.
    stack.up(state("verified"), state("verified"), issue=f"{ISSUE}; true")
    assert stack.output("key") == both
    assert stack.output("webhook") == {"0": first, "1": "issued-1"}
    assert (stack.lines("issued"), stack.lines("revoked")) == (["issued-1"], [])

    stack.up(state("retired"), state("retired"))
    assert stack.output("key") == {"1": both["1"]}
    assert stack.output("webhook") == {"1": "issued-1"}
    assert stack.lines("revoked") == [first], "the first value was given, and ends all the same"

    stack.up(state("failed", 2, 1), state("failed", 2, 1))
    failed = stack.output("key")
    assert failed["1"] == both["1"]
    assert stack.output("webhook") == {"1": "issued-1", "2": "issued-2"}

    # After a failure a number is skipped: the same slot, another value.
    stack.up(state("pending", 4, 1), state("pending", 4, 1))
    again = stack.output("key")
    assert again["1"] == both["1"]
    assert again["4"] != failed["2"]
    assert stack.output("webhook") == {"1": "issued-1", "4": "issued-3"}
    assert stack.lines("revoked") == [first, "issued-2"]

    for value in (first, *stack.lines("issued"), *both.values(), *failed.values(), *again.values()):
        assert value not in stack.shown
        assert value not in stack.exported
