"""The update of dependencies: what it may change, what the pull request says, and no credential near new versions."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci import update_dependencies
from ci.update_dependencies import UpdateError, is_lock_file, limit_majors, propose, read_versions, render, update
from sandbox.paths import ROOT
from tests.unit import test_pipeline_comments as comments

server, forge_of = comments.server, comments.forge_of
LOCK = """boto3==1.40.2 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
lightkube==0.22.1 ; python_version < '4' \\
    --hash=sha256:cc
grafana-foundation-sdk==1769699379!11.6.0 \\
    --hash=sha256:dd
"""
NPM = {
    "packages": {
        "": {"name": "shop"},
        "node_modules/pg": {"version": "8.1.0"},
        "node_modules/a/node_modules/pg": {"version": "7.0.0"},
    }
}
MAKE = """#!/bin/sh
cp "$UV_CONSTRAINT" "$SEEN"
sed -i s/1.40.2/1.41.0/ requirements.lock
"""
NPM_PROGRAM = """#!/bin/sh
echo "npm $*" >> "$CALLS"
sed -i s/8.1.0/8.2.0/ package-lock.json
"""


def git(cwd: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with lock files; `make` and `npm` are programs that change one version each."""
    for name, text in (("make", MAKE), ("npm", NPM_PROGRAM)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    for name in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "remote")
    git(tmp_path, "clone", "--quiet", "remote", "ours")
    folder = tmp_path / "ours"
    (folder / "shop").mkdir()
    (folder / "requirements.lock").write_text(LOCK)
    (folder / "shop" / "package-lock.json").write_text(json.dumps(NPM, indent=2))
    (folder / "program.py").write_text("pass\n")
    git(folder, "checkout", "--quiet", "-B", "main")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "first")
    git(folder, "push", "--quiet", "-u", "origin", "main")
    return folder


def test_packages_stay_below_their_next_major_version() -> None:
    assert limit_majors(LOCK).splitlines() == [
        "boto3<2",
        "lightkube<0.23",
        "grafana-foundation-sdk<1769699379!12",
    ]


def test_the_locks_of_this_project_can_be_limited_and_read() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert len(limit_majors(text).splitlines()) == text.count("==") - text.count(" == ")
    assert read_versions("requirements.lock", text)["lightkube"].startswith("0.22.")
    path = "sandbox/shop/package-lock.json"
    assert "pg" in read_versions(path, (ROOT / path).read_text())


def test_versions_are_read_from_each_kind_of_lock() -> None:
    assert read_versions("requirements.lock", LOCK) == {
        "boto3": "1.40.2",
        "lightkube": "0.22.1",
        "grafana-foundation-sdk": "1769699379!11.6.0",
    }
    assert read_versions("a/package-lock.json", json.dumps(NPM)) == {"pg": "7.0.0, 8.1.0"}


def test_an_update_changes_locks_within_limits_and_reports_the_checks(checkout: Path, tmp_path: Path) -> None:
    report = update(checkout, tmp_path / "made", ["sh", "-c", "echo 12 passed"])
    assert report["passed"]
    assert report["printed"] == "12 passed"
    assert report["changes"] == [
        {"file": "requirements.lock", "package": "boto3", "from": "1.40.2", "to": "1.41.0"},
        {"file": "shop/package-lock.json", "package": "pg", "from": "7.0.0, 8.1.0", "to": "7.0.0, 8.2.0"},
    ]
    assert (tmp_path / "seen").read_text() == limit_majors(LOCK)
    assert "--ignore-scripts" in (tmp_path / "calls").read_text()


def test_checks_that_fail_are_reported_and_the_pull_request_says_so(
    checkout: Path, tmp_path: Path, forge_of: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    assert not update(checkout, made, ["sh", "-c", "echo 1 failed; exit 1"])["passed"]
    git(checkout, "checkout", "--quiet", ".")
    monkeypatch.setattr(update_dependencies, "find_forge", lambda: forge_of(1))
    words = ["propose", str(made), "--folder", str(checkout)]
    assert update_dependencies.main(words) == 1
    (opened,) = next(iter(server.items.values()))
    assert opened["title"].endswith(": checks fail")
    assert "1 failed" in (opened.get("body") or opened.get("description"))
    assert git(checkout.parent / "remote", "diff", "--name-only", "main", update_dependencies.BRANCH).split() == [
        "requirements.lock",
        "shop/package-lock.json",
    ]
    # A week later there is one pull request still, with the new report.
    git(checkout, "checkout", "--quiet", "-B", "main", "origin/main")
    assert update(checkout, made, ["true"])["passed"]
    git(checkout, "checkout", "--quiet", ".")
    assert update_dependencies.main(words) == 0
    (renewed,) = next(iter(server.items.values()))
    assert not renewed["title"].endswith("fail")


def test_without_a_newer_version_nothing_is_proposed(checkout: Path, tmp_path: Path) -> None:
    for name in ("make", "npm"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
    report = update(checkout, tmp_path / "made", ["false"])
    assert report == {"changes": [], "passed": True, "checks": "false", "printed": ""}
    assert "nothing to propose" in propose(checkout, tmp_path / "made", "main")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "program.py").write_text("import os\n"),
        lambda folder: (folder / "new.py").write_text("x\n"),
        lambda folder: (folder / "requirements.lock").rename(folder / "run.sh"),
        lambda folder: (folder / "requirements.lock").chmod(0o755),
        lambda folder: ((folder / "requirements.lock").unlink(), (folder / "requirements.lock").symlink_to("/etc")),
    ],
)
def test_a_patch_that_changes_anything_else_is_not_pushed(change: Any, checkout: Path, tmp_path: Path) -> None:
    """The first step runs the new versions: what it hands over may be theirs."""
    made = tmp_path / "made"
    update(checkout, made, ["true"])
    change(checkout)
    git(checkout, "add", ".")
    (made / "update.patch").write_text(git(checkout, "diff", "--cached", "-M"))
    git(checkout, "reset", "--quiet", "--hard")
    with pytest.raises(UpdateError, match="which is no lock file: nothing was pushed"):
        propose(checkout, made, "main")
    assert git(checkout.parent / "remote", "branch").split() == ["*", "main"]


def test_a_failing_program_is_named(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 7\n")
    code = update_dependencies.main(["update", str(tmp_path / "made"), "--folder", str(checkout)])
    assert code == 1
    assert "npm update" in (error := capsys.readouterr().err)
    assert "ended with 7" in error


def test_the_text_fits_and_cannot_leave_its_block() -> None:
    rows = [{"file": "requirements.lock", "package": f"p{number}", "from": None, "to": "1"} for number in range(300)]
    report = {"changes": rows, "passed": True, "checks": "make check", "printed": "~~~~\nx\n" * 20_000}
    text = render(report, details="https://x/1", limit=60_000)
    assert len(text) <= 60_000
    assert "and 100 more." in text
    assert text.endswith("~~~~~~~")


def test_what_runs_new_versions_has_no_credential_and_what_writes_runs_none() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/dependencies.yaml").read_text())["jobs"]
    assert jobs["update"]["permissions"] == {"contents": "read"}
    assert "token" not in yaml.safe_dump(jobs["update"])
    steps = " ".join(step.get("run", "") for step in jobs["propose"]["steps"])
    assert "propose" in steps
    assert "make" not in steps
    gitlab = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
    assert "environment" not in gitlab["dependencies"]
    assert "GITLAB_TOKEN" not in yaml.safe_dump(gitlab["dependencies"])


def test_the_templates_for_applications_leave_major_versions_to_people() -> None:
    found = yaml.safe_load((ROOT / "ci/templates/dependabot.yml").read_text())
    assert found["version"] == 2
    for block in found["updates"]:
        major = "version-update:semver-major" in json.dumps(block.get("ignore"))
        assert major == (block["package-ecosystem"] != "github-actions"), block
    renovate = json.loads((ROOT / "ci/templates/renovate.json").read_text())
    assert {"matchUpdateTypes": ["major"], "enabled": False} in renovate["packageRules"]


def test_lock_files_are_recognised_by_name() -> None:
    listed = git(ROOT, "ls-files").splitlines()
    assert {"requirements.lock", "images/tasks/requirements.txt", "sandbox/shop/package-lock.json"} <= set(
        filter(is_lock_file, listed)
    )
    assert not any(map(is_lock_file, (".github/workflows/x.yaml", "a/requirements.lock.py", "ci/requirements.in")))
