"""`runbook check-code` with real programs on a real git checkout, and the deploy that requires its report."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.adapters.checkout import Checkout
from ops.commands import code_checks
from ops.decisions.code_report import explain_refusal
from ops.errors import Refused
from ops.stack import reports
from settings import Release, SettingsError, StackFile, parse
from settings.checks import Checks
from settings.commands import Commands
from tests.support.program import RELEASE, secrets_for, stack_config

COUNT = "sh -c 'echo x >> \"$COUNTED/{name}\"; echo output of {name}'"


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    return subprocess.run(
        ["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


class World:
    """A checkout with one commit, and a stack file beside it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code, self.counted = folder / "shop", folder / "counted"
        self.code.mkdir()
        self.counted.mkdir()
        (self.code / "main.js").write_text("1\n")
        (self.code / ".gitignore").write_text("dist/\n")
        git(self.code, "init", "-q")
        self.commit()
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setenv("COUNTED", str(self.counted))
        self.said: list[str] = []
        self.checks = Checks()
        self.file = folder / "Pulumi.test.yaml"
        monkeypatch.setattr(code_checks, "load_settings", lambda _: self.settings)
        monkeypatch.setattr(reports, "whoami", lambda: "ann@desk")

    @property
    def settings(self) -> Any:
        return SimpleNamespace(checks=self.checks, commands=Commands())

    @property
    def session(self) -> Any:
        return SimpleNamespace(file=self.file, seconds=1.0, say=lambda text, *_: self.said.append(text))

    @property
    def head(self) -> str:
        return git(self.code, "rev-parse", "HEAD")

    def commit(self) -> None:
        git(self.code, "add", "-A")
        git(self.code, "commit", "-q", "-m", "x")

    def set_steps(self, *steps: dict[str, Any], **more: Any) -> None:
        self.checks = Checks.model_validate({"code": {"steps": steps, **more}})

    def run(self, *, again: bool = False) -> dict[str, Any]:
        return code_checks.check_code(self.session, self.code, again=again)

    def failed(self) -> dict[str, str]:
        return {line["name"]: line["evidence"] for line in self.run()["lines"] if line["result"] == "fail"}

    def runs(self, name: str) -> int:
        file = self.counted / name
        return len(file.read_text().split()) if file.exists() else 0

    def require(self, release: Release, label: str | None = None) -> Release:
        facts = cast(Any, SimpleNamespace(settings=self.settings))
        return code_checks.require_report(self.session, facts, release, label)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def counting(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "run": COUNT.format(name=name), **more}


def test_what_passed_is_not_run_again_until_the_code_changes(here: World) -> None:
    here.set_steps(counting("lint"), counting("audit", cache=False))
    first = here.run()
    assert (first["result"], first["commit"], first["changed"]) == ("passed", here.head, False)
    assert any("lint | output of lint" in line for line in here.said)
    again = here.run()
    assert [line["evidence"][:9] for line in again["lines"]] == ["passed at", "passed in"]
    assert (here.runs("lint"), here.runs("audit")) == (1, 2)
    here.run(again=True)
    assert here.runs("lint") == 2
    (here.code / "main.js").write_text("2\n")
    changed = here.run()
    assert here.runs("lint") == 3
    assert changed["changed"] is True
    (here.code / "main.js").write_text("1\n")
    here.run()
    assert here.runs("lint") == 3, "the code is what it was"


@pytest.mark.parametrize(
    "change",
    [
        lambda code: (code / "new.js").write_text(""),
        lambda code: (code / "main.js").unlink(),
        lambda code: (code / "main.js").chmod(0o755),
        lambda code: (code / "main.js").rename(code / "other.js"),
        lambda code: (code / "link").symlink_to("main.js"),
    ],
)
@pytest.mark.parametrize("under_git", [True, False])
def test_every_change_is_other_code(here: World, change: Callable[[Path], object], under_git: bool) -> None:
    if not under_git:
        (here.code / ".git").rename(here.code.parent / "gone")
    before = Checkout(here.code).hash_content()
    assert Checkout(here.code).hash_content() == before
    change(here.code)
    assert Checkout(here.code).hash_content() != before


def test_what_git_ignores_and_reports_are_no_code(here: World) -> None:
    here.set_steps(counting("lint"))
    here.file = here.code / "Pulumi.test.yaml"
    here.run()
    (here.code / "dist").mkdir()
    (here.code / "dist" / "main.js").write_text("built")
    done = here.run()
    assert (here.runs("lint"), done["changed"], done["result"]) == (1, False, "passed")
    assert Path(done["keptAs"]) == here.code / "reports" / f"code-{here.head}.json"


def test_independent_steps_run_side_by_side_and_the_others_in_order(here: World) -> None:
    # Each waits for the other: one after the other they would end at their deadlines.
    meet = 'sh -c \'touch "$COUNTED/{0}"; while [ ! -e "$COUNTED/{1}" ]; do sleep 0.02; done\''
    here.set_steps(
        {"name": "one", "run": meet.format("a", "b"), "timeoutSeconds": 20},
        {"name": "two", "run": meet.format("b", "a"), "timeoutSeconds": 20},
        {"name": "three", "run": 'sh -c \'test -e "$COUNTED/a" -a -e "$COUNTED/b"\'', "after": ["one", "two"]},
    )
    assert here.run()["result"] == "passed"


def test_a_failed_step_prevents_what_comes_after_it_and_nothing_else(here: World) -> None:
    here.set_steps(
        {"name": "build", "run": "sh -c 'echo no such module; exit 3'"},
        counting("lighthouse", after=["build"]),
        counting("lint"),
    )
    failed = here.failed()
    assert set(failed) == {"build", "lighthouse"}
    assert "ended with exit code 3: no such module" in failed["build"]
    assert failed["lighthouse"] == "not run: build failed"
    assert (here.runs("lighthouse"), here.runs("lint")) == (0, 1)
    assert set(here.failed()) == {"build", "lighthouse"}, "a failure is not kept"


def test_a_step_that_hangs_is_ended_with_its_children(here: World) -> None:
    here.set_steps({"name": "slow", "run": "sh -c 'sleep 60 & sleep 60'", "timeoutSeconds": 1})
    began = time.monotonic()
    assert "was ended after 1 s" in here.failed()["slow"]
    assert time.monotonic() - began < 20


def test_a_program_that_is_not_there_and_attempts(here: World) -> None:
    here.set_steps(
        {"name": "lint", "run": "no-such-program-here"},
        {"name": "flaky", "run": 'sh -c \'echo x >> "$COUNTED/f"; test $(wc -l < "$COUNTED/f") = 2\'', "attempts": 2},
    )
    assert set(failed := here.failed()) == {"lint"}
    assert "cannot be started" in failed["lint"]


def test_a_build_whose_output_is_gone_runs_again(here: World) -> None:
    build = {"name": "build", "run": ["sh -c 'mkdir -p dist'", COUNT.format(name="build")], "outputs": ["dist"]}
    here.set_steps(build)
    here.run()
    here.run()
    assert here.runs("build") == 1
    (here.code / "dist").rmdir()
    here.run()
    assert here.runs("build") == 2
    here.set_steps({**build, "outputs": ["out"]})
    assert here.failed() == {"build": "it made no out"}


def test_secrets_of_the_environment_are_in_no_report_and_no_log(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_TOKEN", "canary-npm-44f1")
    monkeypatch.setenv("DEPLOY_PASSPHRASE", "canary-pass-9a")
    urls = "postgres://shop:canary-url-7c@db/shop"
    here.set_steps({"name": "audit", "run": f"sh -c 'echo $NPM_TOKEN $DEPLOY_PASSPHRASE {urls}; exit 1'"})
    report = here.run()
    assert "ended with exit code 1" in report["lines"][0]["evidence"]
    kept = Path(report["keptAs"])
    for shown in (json.dumps(report), " ".join(here.said), kept.read_text(), kept.with_suffix(".html").read_text()):
        assert "[secret]" in shown
        assert "canary" not in shown


def test_what_the_build_made_is_archived_by_digest(here: World, tmp_path: Path) -> None:
    make = "sh -c 'mkdir -p dist/a && echo built > dist/a/main.js && ln -sf a/main.js dist/link'"
    build = {"name": "build", "run": make, "outputs": ["dist"], "cache": False}
    here.set_steps(build)
    first = here.run()["artifacts"]
    archive = tmp_path / "reports" / first["file"]
    assert f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}" == first["digest"]
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["dist", "dist/a", "dist/a/main.js", "dist/link"]
    assert here.run()["artifacts"] == first, "the same files, whenever they were made"
    (here.code / "dist" / "a" / "more.js").write_text("x")
    assert here.run()["artifacts"]["digest"] != first["digest"]
    here.set_steps(build, {"name": "lint", "run": "sh -c 'exit 1'"})
    assert "artifacts" not in here.run()


def test_a_step_that_changes_the_code_fails_the_report(here: World) -> None:
    here.set_steps({"name": "format", "run": "sh -c 'echo 3 > main.js'"})
    assert set(here.failed()) == {"checkout"}


# -- the deploy that requires a report -------------------------------------------------------------


def release(git_: str, **more: Any) -> Release:
    return Release.model_validate({**RELEASE, "git": git_, **more})


def test_a_release_needs_a_green_report_of_its_commit(here: World) -> None:
    here.set_steps(counting("lint"), required=True)
    with pytest.raises(Refused, match="there is no report of commit"):
        here.require(release(here.head))
    report = here.run()
    for name in (here.head, here.head[:7]):
        assert here.require(release(name), report["digest"]).report == report["digest"]
    with pytest.raises(Refused, match=f"--label runbook.report={report['digest']}"):
        here.require(release(here.head))
    with pytest.raises(Refused, match="built after another report"):
        here.require(release(here.head), "sha256:" + "0" * 64)
    with pytest.raises(Refused, match="no report of commit 1a2b3c4"):
        here.require(release("1a2b3c4"))
    assert here.require(release("1a2b3c4", withoutChecks="the fix cannot wait")).report is None
    assert "the fix cannot wait" in here.said[-1]


def test_a_red_report_one_of_a_changed_checkout_and_one_that_was_edited_are_refused(here: World) -> None:
    here.set_steps({"name": "lint", "run": "sh -c 'exit 1'"}, required=True)
    here.run()
    with pytest.raises(Refused, match="is red: lint"):
        here.require(release(here.head))
    (here.code / "main.js").write_text("2\n")
    here.set_steps(counting("lint"), required=True)
    here.run()
    with pytest.raises(Refused, match="changes that are not in the commit"):
        here.require(release(here.head))
    git(here.code, "checkout", "-q", "main.js")
    file = Path(here.run()["keptAs"])
    report = json.loads(file.read_text())
    assert explain_refusal(report, here.head, report["digest"]) is None
    file.write_text(json.dumps({**report, "by": "someone else"}))
    with pytest.raises(Refused, match="was changed after it was made"):
        here.require(release(here.head))
    file.write_text("{")
    with pytest.raises(Refused, match="is no JSON"):
        here.require(release(here.head))


def test_where_none_is_required_none_is_looked_for(here: World) -> None:
    assert here.require(release("1a2b3c4")).report is None


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"name": "a", "run": "x"}, {"name": "a", "run": "y"}], "already the name of another step"),
        ([{"name": "a", "run": "x", "after": ["b"]}, {"name": "b", "run": "y"}], "no step above has this name: b"),
    ],
)
def test_steps_that_are_refused(steps: list[dict[str, Any]], words: str) -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, checks={"code": {"steps": steps}})
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    with pytest.raises(SettingsError, match=words):
        parse(StackFile("Pulumi.sandbox.yaml", config, sealed))
