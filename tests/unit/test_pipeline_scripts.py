"""The shell scripts of the pipelines, run by bash as a runner does, with real git and a fake engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ops.cli.main import app

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "ci" / script), *words], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True
    )


def push(checkout: Path) -> subprocess.CompletedProcess[str]:
    return run("push-stack-file.sh", "prod", "release", "main", cwd=checkout)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a bare repository with a stack file."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "remote")
    for name in ("ours", "theirs"):
        git(tmp_path, "clone", "--quiet", "remote", name)
        git(tmp_path / name, "config", "user.name", name)
        git(tmp_path / name, "config", "user.email", f"{name}@example.com")
    (tmp_path / "ours" / "Pulumi.prod.yaml").write_text("config:\n  a: 1\n")
    git(tmp_path / "ours", "checkout", "--quiet", "-B", "main")
    git(tmp_path / "ours", "add", ".")
    git(tmp_path / "ours", "commit", "--quiet", "-m", "first")
    git(tmp_path / "ours", "push", "--quiet", "-u", "origin", "main")
    git(tmp_path / "theirs", "pull", "--quiet", "origin", "main")
    return tmp_path / "ours"


def git(cwd: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True).stdout


def push_of_another(checkout: Path, file: str, text: str) -> None:
    other = checkout.parent / "theirs"
    git(other, "checkout", "--quiet", "-B", "main", "origin/main")
    (other / file).write_text(text)
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "other")
    git(other, "push", "--quiet", "origin", "main")


def test_the_stack_file_is_pushed_also_when_another_one_pushed_first(checkout: Path) -> None:
    push_of_another(checkout, "README", "x")
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    done = push(checkout)
    assert done.returncode == 0, done.stderr
    assert git(checkout.parent / "remote", "show", "main:Pulumi.prod.yaml") == "config:\n  a: 2\n"
    assert git(checkout.parent / "remote", "show", "main:README") == "x"


def test_nothing_to_push_is_no_failure(checkout: Path) -> None:
    assert push(checkout).returncode == 0


def test_a_conflict_in_the_stack_file_is_red(checkout: Path) -> None:
    push_of_another(checkout, "Pulumi.prod.yaml", "config:\n  a: 3\n")
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    assert push(checkout).returncode != 0
    assert git(checkout.parent / "remote", "show", "main:Pulumi.prod.yaml") == "config:\n  a: 3\n"
    assert git(checkout.parent / "remote", "show", "runbook/prod:Pulumi.prod.yaml") == "config:\n  a: 2\n"


def test_a_protected_branch_is_red_and_the_commit_is_kept_for_a_pull_request(checkout: Path) -> None:
    refuse(checkout, "refs/heads/main")
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    done = push(checkout)
    assert done.returncode == 1
    assert "the branch lacks what prod runs now" in done.stderr
    assert git(checkout.parent / "remote", "show", "runbook/prod:Pulumi.prod.yaml") == "config:\n  a: 2\n"


def test_when_nothing_can_be_pushed_the_error_says_how_to_restore_the_file(checkout: Path) -> None:
    refuse(checkout, "refs/")
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    done = push(checkout)
    assert done.returncode == 1
    assert "pulumi config refresh --force --stack prod" in done.stderr


def refuse(checkout: Path, refs: str) -> None:
    hook = checkout.parent / "remote" / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\nread -r _ _ ref\ncase $ref in {refs}*) exit 1;; esac\n")
    hook.chmod(0o755)


PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
[ "$(basename "$0")" = runbook ] || printf '%s' "$IMAGE_OF_STACK"
"""


@pytest.mark.parametrize(
    ("image", "expected"),
    [("shop@sha256:1", "runbook deploy shop@sha256:1 --stack prod --yes"), ("", "no release yet")],
)
def test_a_merge_deploys_the_image_that_the_stack_runs(tmp_path: Path, image: str, expected: str) -> None:
    for name in ("pulumi", "runbook"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run("apply.sh", "prod", "--yes", cwd=tmp_path, PATH=path, CALLS=str(calls), IMAGE_OF_STACK=image)
    assert done.returncode == 0
    assert expected in calls.read_text() + done.stdout


def test_no_two_kinds_of_run_share_a_queue_that_keeps_one() -> None:
    names = ("release", "rollback", "rotate")
    files = {name: (ROOT / f".github/workflows/{name}.yaml").read_text() for name in names}
    groups = {name: re.findall("group: .*", text)[0] for name, text in files.items()}
    assert "github.run_id" in groups["release"]
    assert "github.run_id" in groups["rollback"]
    assert len(set(groups.values())) == 3


def jobs() -> list[tuple[str, dict[str, Any]]]:
    documents = [yaml.safe_load(file.read_text()) for file in (ROOT / ".github/workflows").glob("*.yaml")]
    return [(f"{found['name']}/{name}", job) for found in documents for name, job in found["jobs"].items()]


def test_only_code_of_the_default_branch_changes_a_stack() -> None:
    """Else everybody who may push a branch could run anything with production's passphrase."""
    writing = [(name, job) for name, job in jobs() if job["permissions"].get("contents") == "write"]
    changing = [(name, job) for name, job in writing if name != "dependencies/propose"]  # no stack: a branch
    assert {name for name, _ in changing} == {"release/release", "apply/apply", "rollback/rollback", "rotate/rotate"}
    for name, job in writing:
        assert job["steps"][0]["with"]["ref"] == "${{ github.event.repository.default_branch }}", name
    for name, job in changing:
        assert "environment" in job, name


def test_no_secret_is_in_a_job_that_runs_a_strangers_code() -> None:
    strangers = {name: job for name, job in jobs() if "environment" not in job}
    assert set(strangers) == {
        *("preview/check", "fork/explain", "dependencies/update", "dependencies/propose", "documents/check"),
    }
    assert all("secrets." not in yaml.safe_dump(job) for job in strangers.values())


def commands(text: str) -> set[tuple[str, ...]]:
    """Each `runbook …` of a pipeline or script, with its options."""
    found = re.findall(r"(?:run: |exec |- )runbook ([^#\n]*)", text)
    return {tuple(re.findall(r"(?<![\w-])(?:--)?[a-z][a-z-]+(?![\w/.\"])", line)) for line in found}


def test_every_command_that_a_pipeline_runs_exists() -> None:
    files = [*(ROOT / ".github/workflows").glob("*.yaml"), ROOT / ".gitlab-ci.yml", ROOT / "ci/apply.sh"]
    found = set().union(*(commands(file.read_text()) for file in files))
    assert {words[0] for words in found} == {"deploy", "rollback", "rotate", "check-docs"}
    for words in found:
        command: Any = typer.main.get_command(app)
        for word in [word for word in words if not word.startswith("--")]:
            command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words
