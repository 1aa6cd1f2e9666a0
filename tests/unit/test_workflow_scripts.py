"""The scripts of the workflows, run by bash as a runner does: a failing preview is red, a refused push is too."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / ".github" / "scripts"
GH = """#!/usr/bin/env python3
import json, os, sys
folder, words = os.environ["GH_FOLDER"], sys.argv[1:]
if "--jq" in words:
    marker = words[words.index("--jq") + 1].split('\\\\"')[0].split('"')[1]
    known = json.load(open(f"{folder}/known.json"))
    print(next((id for id, body in known.items() if body.startswith(marker)), ""))
else:
    body = open(words[-1].removeprefix("body=@")).read()
    with open(f"{folder}/calls", "a") as calls:
        calls.write(json.dumps([words[words.index("--method") + 1], words[3], body]) + "\\n")
"""


def run(script: str, *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", str(SCRIPTS / script), *words],
        cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def preview(tmp_path: Path, stack: str, printed: str, code: int, known: dict[str, str]) -> tuple[int, list[list[str]]]:
    """Exit code, and the calls that write comments: method, path, body."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    (tmp_path / "printed").write_text(printed)
    (programs / "pulumi").write_text(f"#!/bin/sh\ncat {tmp_path}/printed\nexit {code}\n")
    (programs / "gh").write_text(GH)
    for program in programs.iterdir():
        program.chmod(0o755)
    (tmp_path / "known.json").write_text(json.dumps(known))
    (tmp_path / "calls").write_text("")
    done = run(
        "preview.sh", stack, "acme/shop", "7",
        cwd=tmp_path, PATH=f"{programs}:{os.environ['PATH']}", GH_FOLDER=str(tmp_path),
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_a_failing_preview_is_red_and_its_comment_says_so(tmp_path: Path) -> None:
    code, calls = preview(tmp_path, "prod", "error: no\n", 255, {})
    assert code == 255
    assert calls[0][:2] == ["POST", "repos/acme/shop/issues/7/comments"]
    assert "failed" in calls[0][2]
    assert "error: no" in calls[0][2]


def test_each_stack_has_a_comment_of_its_own(tmp_path: Path) -> None:
    known = {"11": "<!-- preview of staging -->\nold", "12": "<!-- preview of prod -->\nold"}
    code, calls = preview(tmp_path, "staging", "no changes\n", 0, known)
    assert code == 0
    assert [call[:2] for call in calls] == [["PATCH", "repos/acme/shop/issues/comments/11"]]
    _, calls = preview(tmp_path, "prod", "no changes\n", 0, known)
    assert calls[0][1] == "repos/acme/shop/issues/comments/12"


def test_a_long_preview_fits_into_a_comment(tmp_path: Path) -> None:
    _, calls = preview(tmp_path, "prod", "é" * 200_000, 0, {})
    assert len(calls[0][2]) < 65_536
    assert "cut here" in calls[0][2]


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
    done = run("push-stack-file.sh", "prod", "release", cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert git(checkout.parent / "remote", "show", "main:Pulumi.prod.yaml") == "config:\n  a: 2\n"
    assert git(checkout.parent / "remote", "show", "main:README") == "x"


def test_nothing_to_push_is_no_failure(checkout: Path) -> None:
    assert run("push-stack-file.sh", "prod", "release", cwd=checkout).returncode == 0


def test_a_conflict_in_the_stack_file_is_red(checkout: Path) -> None:
    push_of_another(checkout, "Pulumi.prod.yaml", "config:\n  a: 3\n")
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    assert run("push-stack-file.sh", "prod", "release", cwd=checkout).returncode != 0
    assert git(checkout.parent / "remote", "show", "main:Pulumi.prod.yaml") == "config:\n  a: 3\n"


def test_a_refused_push_is_red(checkout: Path) -> None:
    hook = checkout.parent / "remote" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (checkout / "Pulumi.prod.yaml").write_text("config:\n  a: 2\n")
    assert run("push-stack-file.sh", "prod", "release", cwd=checkout).returncode == 1


def test_no_two_kinds_of_run_share_a_queue_that_keeps_one() -> None:
    names = ("release", "rollback", "rotate")
    files = {name: (ROOT / f".github/workflows/{name}.yaml").read_text() for name in names}
    groups = {name: re.findall("group: .*", text)[0] for name, text in files.items()}
    assert "github.run_id" in groups["release"]
    assert "github.run_id" in groups["rollback"]
    assert len(set(groups.values())) == 3
