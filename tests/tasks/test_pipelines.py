"""The pipelines' preview with a real engine, and the linters of the workflow files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci.engine_run import preview, preview_refresh
from sandbox import toolchain
from sandbox.paths import ROOT
from tests.support.stack_session import pulumi

PROGRAM = """
import pulumi, pulumi_random as random
mode = pulumi.Config().get("mode") or ""
random.RandomId("kept", byte_length=4)
secret = pulumi.Config().require_secret("secret")
random.RandomId("replaced", byte_length=4, keepers={"mode": mode, "secret": secret})
if mode == "more":
    random.RandomId("created", byte_length=4)
else:
    random.RandomId("deleted", byte_length=4)
if mode == "broken":
    raise Exception("the image is not by digest")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack that was updated once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "backend").mkdir()
    os.environ.update(PULUMI_BACKEND_URL=f"file://{folder}/backend", PULUMI_CONFIG_PASSPHRASE="right")
    for name in ("PULUMI_OPTION_CONFIG_FILE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_STACK"):
        os.environ.pop(name, None)
    (folder / "Pulumi.yaml").write_text("name: pipeline\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    pulumi(folder, "stack", "init", "dev")
    pulumi(folder, "config", "set", "--secret", "secret", "canary-in-a-preview", "--stack", "dev")
    pulumi(folder, "up", "--yes", "--stack", "dev")
    return folder


def set_mode(project: Path, mode: str) -> None:
    pulumi(project, "config", "set", "mode", mode, "--stack", "dev")


def test_create_replace_and_delete_are_distinguished(project: Path) -> None:
    set_mode(project, "more")
    run = preview(stack_name="dev", folder=project)
    assert [(change.verb, change.name) for change in run.changes] == [
        ("delete", "deleted"),
        ("replace", "replaced"),
        ("create", "created"),
    ]
    assert run.succeeded
    assert "canary" not in run.printed


def test_no_change(project: Path) -> None:
    set_mode(project, "")
    assert preview("dev", project).changes == ()
    assert preview_refresh("dev", project).changes == ()


def test_a_failing_program_is_reported_with_its_error(project: Path) -> None:
    set_mode(project, "broken")
    run = preview("dev", project)
    assert not run.succeeded
    assert "the image is not by digest" in run.errors


def test_a_stack_that_is_not_there_is_an_error(project: Path) -> None:
    assert "no stack named" in preview("absent", project).errors


def test_the_workflows_pass_actionlint_and_zizmor() -> None:
    for command in (
        [str(toolchain.build_actionlint()), "-no-color"],
        [str(ROOT / ".venv/bin/zizmor"), "--offline", "--no-progress"],
    ):
        extra = [".github"] if command[0].endswith("zizmor") else []
        done = subprocess.run([*command, *extra], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
