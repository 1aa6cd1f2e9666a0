"""T1: `pulumi up` of a stack file that was copied from the example, with the real program and the real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.program import secrets_for
from tests.support.stack_session import ROOT, needs_engine, pulumi

pytestmark = needs_engine
CLUSTER = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "whatever-kubectl-is-at",
    "contexts": [{"name": "whatever-kubectl-is-at", "context": {"cluster": "here", "user": "me"}}],
    "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "me", "user": {}}],
}


def test_a_copied_stack_file_goes_to_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(CLUSTER))
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    file = Path(shutil.copy(ROOT / "Pulumi.prod.yaml", tmp_path))
    for name, value in {
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
        "PULUMI_CONFIG_PASSPHRASE": "right",
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK"):
        monkeypatch.delenv(name, raising=False)
    pulumi(tmp_path, "stack", "init", "prod")
    given = secrets_for(yaml.safe_load(file.read_text())["config"])
    words = [part for name, value in given.items() for part in ("--secret", f"secrets:{name}={value}")]
    pulumi(tmp_path, "config", "set-all", "--stack", "prod", *words)

    done = subprocess.run(
        ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", "prod"],
        cwd=ROOT,
        env={**os.environ, "PULUMI_OPTION_CONFIG_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "kubernetes:context" in said
    assert "runbook:image" in said
    assert "write the digest that your registry has for registry.example.com/runbook-tasks" in said
    assert "127.0.0.1:1" not in said, "it did not get as far as the cluster"
    assert not any(value in said for value in given.values())
