"""`pulumi preview --policy-pack` with the real engine, the official Kubernetes provider and this project's pack.

The sandbox's language host is older than the engine and cannot start policy packs. So the copy of the pack that runs
here names a runtime of which there is no language host, and the engine starts it as it starts other analyzers: by the
program `pulumi-analyzer-policy-RUNTIME`, whose text is that of the engine's own for Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sandbox.paths import ROOT
from tests.support.policy_pack import packages

PROGRAM = """
import pulumi
from pulumi_kubernetes import Provider
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ConfigMap

bad = pulumi.Config().get("bad") or ""
limits = {"cpu": "1", "memory": "64Mi"}
container = {
    "name": "app",
    "image": "shop:1" if bad == "image" else "shop@sha256:" + "a" * 64,
    "env": [{"name": "API_TOKEN", "value": "canary-9d1"}] if bad == "secret" else [],
    "resources": {"requests": limits, "limits": {} if bad == "limits" else limits},
    "security_context": {"allow_privilege_escalation": False, "capabilities": {"drop": ["ALL"]}},
}
shared = {"run_as_non_root": bad != "root", "run_as_user": 10001, "seccomp_profile": {"type": "RuntimeDefault"}}
labels = {"app": "shop"}
inside = pulumi.ResourceOptions(provider=Provider("files", render_yaml_to_directory="rendered"))
Deployment("shop", opts=inside, spec={
    "selector": {"match_labels": labels},
    "template": {"metadata": {"labels": labels}, "spec": {"security_context": shared, "containers": [container]}},
})
ConfigMap("settings", opts=inside, data={"DB_PASSWORD": "canary-9d1"} if bad == "map" else {"LEVEL": "info"})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "backend").mkdir()
    (folder / "Pulumi.yaml").write_text("name: policies\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    shutil.copytree(ROOT / "policy", folder / "pack", ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    (folder / "pack" / "PulumiPolicy.yaml").write_text("name: runbook\nversion: 1.0.0\nruntime: pythonpack\n")
    (folder / "bin").mkdir()
    starter = folder / "bin" / "pulumi-analyzer-policy-pythonpack"
    starter.write_text('#!/bin/sh\nexec python3 -u -m pulumi.policy "$@"\n')
    starter.chmod(0o755)
    run(folder, "stack", "init", "dev")
    return folder


def run(folder: Path, *words: str) -> tuple[int, str]:
    left_out = ("KUBECONFIG", "PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
        "PULUMI_BACKEND_URL": f"file://{folder}/backend",
        "PULUMI_CONFIG_PASSPHRASE": "of the test",
        "PYTHONPATH": str(packages()),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["pulumi", "--non-interactive", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def preview(project: Path, bad: str) -> tuple[int, str]:
    run(project, "config", "set", "bad", bad, "--stack", "dev")
    return run(project, "preview", "--stack", "dev", "--policy-pack", str(project / "pack"))


def test_a_program_that_keeps_the_rules_passes(project: Path) -> None:
    code, printed = preview(project, "nothing")
    assert code == 0, printed
    assert "runbook@v1.0.0" in printed


@pytest.mark.parametrize(
    ("bad", "rule", "words"),
    [
        ("image", "image-by-digest", "image shop:1 is not by digest"),
        ("root", "restricted", "runAsNonRoot is not true"),
        ("secret", "no-plaintext-secret", "variable API_TOKEN has its value in the manifest"),
        ("limits", "requests-and-limits", "resources.limits has no cpu and no memory"),
        ("map", "no-secret-in-a-config-map", "key DB_PASSWORD of a ConfigMap"),
    ],
)
def test_a_program_that_breaks_one_is_refused(project: Path, bad: str, rule: str, words: str) -> None:
    code, printed = preview(project, bad)
    assert code != 0, printed
    assert set(re.findall(r"\[mandatory\]\s+(\S+)", printed)) == {rule}, printed
    assert words in printed
    assert "canary" not in printed
