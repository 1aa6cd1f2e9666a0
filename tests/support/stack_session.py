"""A stack with a real engine and a fake cluster."""

from __future__ import annotations

import atexit
import gzip
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
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
CANARY = "sk_live_CANARY-51H"
needs_engine = pytest.mark.skipif(shutil.which("pulumi") is None, reason="needs the engine: . ./.sandbox/env")
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


def create_session(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    changes: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    *,
    updated: bool = False,
) -> Session:
    """A stack of this program in a backend of files: the sandbox's stack file with `changes`, and with more `secrets`.

    It was never updated, or `updated` once.
    """
    made = _make_stack(program, json.dumps(changes or {}), json.dumps(secrets or {}), updated)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    project = tmp_path / "project"
    for name, value in {**_environment(tmp_path), "RUNBOOK_USER": "alice"}.items():
        monkeypatch.setenv(name, value)
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    opened = open_session(project, "dev")
    monkeypatch.setattr(FakeCluster, "level", None)
    cluster = FakeCluster(opened.file)
    monkeypatch.setattr(Session, "cluster", lambda _self, *_: cluster)
    return opened


_UNSET = ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK")


def _environment(folder: Path) -> dict[str, str]:
    return {"PULUMI_BACKEND_URL": f"file://{folder / 'backend'}", "PULUMI_CONFIG_PASSPHRASE": "right"}


@cache
def _make_stack(program: str, changes: str, secrets: str, updated: bool) -> Path:
    """A folder with the project and its state, made by the engine once: tests get copies of it."""
    folder = Path(tempfile.mkdtemp(prefix="runbook-stack-"))
    atexit.register(shutil.rmtree, folder)
    project = folder / "project"
    for each in (folder / "backend", project):
        each.mkdir()
    (project / "Pulumi.yaml").write_text("name: runbook\nruntime: python\n")
    (project / "__main__.py").write_text(program)
    document = yaml.safe_load((ROOT / "Pulumi.sandbox.yaml").read_text())
    config = document["config"]
    # The backup gate runs a task in a cluster: covered by tests/cluster.
    del config["runbook:backup"], config["runbook:maintenanceTasks"]
    for key in ("runbook:rotation", "runbook:monitoring"):
        config.pop(key, None)
    config |= json.loads(changes)
    wanted = {name: f"canary-{name}" for name in config["runbook:application"]["secrets"]} | json.loads(secrets)
    (project / "Pulumi.dev.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    environment = {key: value for key, value in os.environ.items() if key not in _UNSET} | _environment(folder)
    pulumi(project, "stack", "init", "dev", environment=environment)
    words = [part for name, value in wanted.items() for part in ("--secret", f"secrets:{name}={value}")]
    pulumi(project, "config", "set-all", "--stack", "dev", *words, environment=environment)
    if updated:
        pulumi(project, "up", "--yes", "--skip-preview", "--stack", "dev", environment=environment)
    return folder


def pulumi(folder: Path, *args: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        ["pulumi", "--non-interactive", *args], cwd=folder, env=environment, capture_output=True, text=True, check=True
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


def places_with(canary: str, folder: Path) -> list[str]:
    """Files below the folder that contain it: state, backups of it, history, locks, the stack file."""
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        if canary.encode() in content:
            found.append(str(file.relative_to(folder)))
    return sorted(found)
