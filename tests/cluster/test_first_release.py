"""From nothing to a first release, in an empty namespace: `runbook init`, `runbook doctor`, `pulumi up`, `runbook
deploy`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.env import BACKEND
from sandbox.paths import ROOT
from tests.support.cluster_stack import Checked, Stack

pytestmark = pytest.mark.drill
"""Four minutes on two busy cores."""
SECRETS = ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_IDENTITY_WEBHOOK_SECRET", "INTERNAL_API_KEY")
UPDATE = ("pulumi", "up", "--stack", "first", "--yes", "--non-interactive", "--skip-preview")
READER = """
apiVersion: v1
kind: Namespace
metadata: {name: first-reader}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: first-reader}
"""


@pytest.fixture(scope="module")
def first(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack file by `runbook init`, as short as it is; no stack and no namespace yet."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "project").mkdir()
    for place in (folder, folder / "project"):
        shutil.copy(ROOT / "Pulumi.yaml", place)
    BACKEND.mkdir(exist_ok=True)
    stack = Stack("first", folder / "Pulumi.first.yaml", backend=f"file://{BACKEND}")
    asked = [
        *("--image", images["shop:v1"], "--tasks-image", images["tasks"]),
        *("--postgres-image", images["postgres"], "--redis-image", images["redis"]),
        *("--environment", "sandbox", "--health-path", "/api/ready", "--live-path", "/api/live"),
        *("--host", "first.localhost", "--ingress-class", "traefik"),
        *("--migrate", "npm run db:migrate --workspace backend"),
        *("--schema-level", "npm run --silent db:level --workspace backend"),
        *("--smoke", "npm run smoke:all --workspace backend"),
        *(word for name in SECRETS for word in ("--secret", name)),
    ]
    made = stack.run("runbook", "init", "first", "--yes", "--json", "--cwd", str(folder), *asked, config_file=False)
    assert made.check().json()["next"][0] == "pulumi stack init first"
    assert len(stack.file.read_text().splitlines()) < 50
    shutil.copy(stack.file, folder / "project")
    stack.forget()
    stack.run("kubectl", "wait", "--for=delete", "namespace/first", "--timeout=150s").check()
    try:
        yield stack
    finally:
        stack.forget()
        stack.run("kubectl", "delete", "namespace", "first-reader", "--ignore-not-found", "--wait=false").check()


def examine(stack: Stack, image: str) -> tuple[Checked, dict[str, dict[str, Any]]]:
    done = stack.runbook("doctor", image, "--json")
    return done, {line["name"]: line for line in done.json()["lines"]}


def test_the_doctor_names_each_step_that_is_left(first: Stack, images: dict[str, str]) -> None:
    done, lines = examine(first, images["shop:v1"])
    assert done.code == 2, done.text
    failed = {name: line["remedy"] for name, line in lines.items() if line["result"] == "fail"}
    assert set(failed) == {"stack", "file"}
    assert failed["stack"] == "`pulumi stack init first`"
    first.run("pulumi", "stack", "init", "first", "--cwd", str(first.file.parent), config_file=False).check()
    assert all(f"pulumi config set --secret secrets:{name}" in lines["file"]["evidence"] for name in SECRETS)
    for name in SECRETS:
        first.set_secret(name, f"whsec_{name.lower()}_of_the_first_release")
    done, lines = examine(first, images["shop:v1"])
    assert done.code == 0, done.text
    assert "would be admitted" in lines["admission"]["evidence"]


def test_the_rights_that_an_identity_lacks_are_named(
    first: Stack, images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.run("kubectl", "apply", "--filename", "-", stdin=READER).check()
    token = first.run("kubectl", "--namespace", "first-reader", "create", "token", "reader").check().out.strip()
    shown = first.run("kubectl", "config", "view", "--raw", "--minify", "--flatten", "--output", "json").check().json()
    shown["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(shown))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    done, lines = examine(first, images["shop:v1"])
    assert done.code == 2
    assert lines["access"]["result"] == "fail"
    assert "rights are missing" in lines["access"]["evidence"]
    assert token not in done.text


def test_an_image_that_is_not_pushed_is_named(first: Stack, images: dict[str, str]) -> None:
    nowhere = images["shop:v1"].replace("/shop@", "/nowhere@")
    done, lines = examine(first, nowhere)
    assert done.code == 2
    assert "is it pushed?" in lines["images"]["evidence"]


def test_what_the_doctor_finds_ready_is_released(first: Stack, images: dict[str, str]) -> None:
    first.run(*UPDATE).check()
    assert "postgres-0" in first.kubectl("get", "pods", "--output", "name")
    done, lines = examine(first, images["shop:v1"])
    assert done.code == 0, done.text
    assert lines["admission"]["evidence"] == "namespace first refuses a privileged pod"
    first.runbook("deploy", images["shop:v1"], "--yes").check()
    found = json.loads(first.kubectl("get", "deployment", "backend", "--output", "json"))
    assert found["status"]["availableReplicas"] == 2
    assert first.changes() == {}
