"""A stack with a real engine and a fake cluster."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from ops.adapters.cluster import Rollout, Unreachable
from ops.adapters.server_clock import ServerClock
from ops.commands.update import LockPolicy
from ops.stack.session import Session, open_session
from tests.support.lease_store import LeaseStore

ROOT = Path(__file__).resolve().parents[2]
POLICY = LockPolicy(break_it=False, confirm=lambda _: False)


class FakeCluster(LeaseStore):
    """A cluster whose schema level the test sets, and which runs the image of the stack file."""

    level: int | None = None

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    namespace = "shop"

    def watch_changes(self, *_: object, **__: object) -> NoReturn:
        raise Unreachable("there is no cluster")

    http = watch_changes

    def read_clock(self) -> ServerClock:
        return ServerClock(datetime.now(UTC), time.monotonic())

    def run_in_pods(self, *_: object) -> dict[str, str]:
        """A gate that refuses, as the stack file says."""
        until = datetime.fromisoformat(yaml.safe_load(self._file.read_text())["config"]["runbook:lockdown"]["until"])
        refusal = {"status": "lockdown", "until": f"{until.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"}
        return {"lockdown-1": json.dumps([503, json.dumps(refusal)])}

    def schema_level(self, *_: object) -> int | None:
        return self.level

    def await_settled(self, services: Any, _seconds: int) -> list[Rollout]:
        image = yaml.safe_load(self._file.read_text())["config"]["runbook:release"]["image"]
        return [Rollout(service.name, 2, 2, 2, image, "", settled=True) for service in services]


def create_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Session:
    """A new stack of this program in a backend of files, never deployed."""
    backend = tmp_path / "backend"
    backend.mkdir()
    project = tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: runbook\nruntime: python\n")
    (project / "__main__.py").write_text(program)
    for name, value in {
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE": "right",
        "RUNBOOK_USER": "alice",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    file = project / "Pulumi.dev.yaml"
    document = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())
    # The backup gate runs a task in a cluster: covered by tests/cluster.
    del document["config"]["runbook:backup"]
    for key in ("runbook:rotation", "runbook:monitoring"):
        document["config"].pop(key, None)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    secrets = document["config"]["runbook:application"]["secrets"]
    pulumi(project, "stack", "init", "dev")
    args = [part for name in secrets for part in ("--secret", f"secrets:{name}=canary-{name}")]
    pulumi(project, "config", "set-all", "--stack", "dev", *args)
    opened = open_session(project, "dev")
    monkeypatch.setattr(FakeCluster, "level", None)
    cluster = FakeCluster(file)
    monkeypatch.setattr(Session, "cluster", lambda _self, *_: cluster)
    return opened


def pulumi(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["pulumi", "--non-interactive", *args], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def read_config(session: Session) -> dict[str, Any]:
    return yaml.safe_load(session.file.read_text())["config"]


def preview_changes(session: Session) -> dict[str, int]:
    shown = pulumi(session.reader.folder, "preview", "--json", "--stack", session.stack)
    return {op: n for op, n in json.loads(shown)["changeSummary"].items() if op != "same"}


def change_elsewhere(session: Session, changes: dict[str, Any], message: str) -> Path:
    """Another machine's update, with a stack file of its own; that file."""
    theirs = session.file.with_name("Pulumi.theirs.yaml")
    document = yaml.safe_load(session.file.read_text())
    document["config"] |= changes
    theirs.write_text(yaml.safe_dump(document, sort_keys=False))
    words = ("up", "--yes", "--skip-preview", "--stack", "dev", "--config-file", str(theirs), "--message", message)
    pulumi(session.reader.folder, *words)
    return theirs
