"""A first `make up`: no package is compiled twice, what can be had is downloaded, and it says how long it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox import images, progress
from sandbox.cluster import helpers
from sandbox.progress import Progress
from sandbox.toolchain import engine, gobuild, parts
from sandbox.toolchain.languages import HERE

# --- one version of each module, so that each package is compiled once ---

BUILT_TOGETHER = ("kubernetes", "pulumi", "random", "provider-command", "language-python")

DIFFERENT = {
    "github.com/pulumi/pulumi/pkg/v3": "the Kubernetes provider does not compile with the engine's",
    "github.com/pulumi/pulumi/sdk/v3": "the Python language host was last in v3.79.0; the provider's goes with pkg",
    "github.com/olekukonko/tablewriter": "the engine's glamour needs v0, Terraform's bridge v1",
}


def versions(module: Path) -> dict[str, str]:
    lines = re.findall(r"^(?:require)?\s+(\S+) (v\S+)(?: // indirect)?$", module.read_text(), re.MULTILINE)
    replaced = set(re.findall(r"^(?:replace)?\s+(\S+)(?: \S+)? => ", module.read_text(), re.MULTILINE))
    return {name: version for name, version in lines if name not in replaced}


def test_modules_that_several_builds_use_have_one_version() -> None:
    found: dict[str, dict[str, str]] = {}
    for folder in BUILT_TOGETHER:
        for name, version in versions(HERE / folder / "go.mod").items():
            found.setdefault(name, {})[folder] = version
    assert len([name for name, used in found.items() if len(used) > 1]) > 100, "there are modules to compare"
    split = {name: used for name, used in found.items() if len(set(used.values())) > 1}
    assert split.keys() == DIFFERENT.keys(), (
        f"raise the lower ones with `go get` and `go mod tidy`: "
        f"{ {name: used for name, used in split.items() if name not in DIFFERENT} }"
    )


def test_every_module_of_the_toolchain_is_compared() -> None:
    # Peers are compared as their makers release them: with the versions of their own go.mod.
    only_tests_ask_for = {"actionlint", "kube-score", *parts.PEERS}
    assert {module.parent.name for module in HERE.glob("*/go.mod")} - only_tests_ask_for == set(BUILT_TOGETHER)


# --- how long it will still take ---


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


TIMES = {"build big": 300, "build small": 100, "start": 20}


def test_a_step_says_how_long_it_and_all_will_take(clock: Clock) -> None:
    steps = Progress(TIMES, cores=2)
    steps.plan([*TIMES, "build unknown"])
    steps.begin("build big")
    clock.now += 120
    assert steps.describe("build big") == "120 s of about 300 s; all: about 5 min left"
    steps.begin("build unknown")
    clock.now += 5
    assert steps.describe("build unknown") == "5 s", "what no time is known for makes no promise"


def test_times_follow_the_cores_and_then_the_pace_of_this_machine(clock: Clock) -> None:
    steps = Progress(TIMES, cores=4)
    steps.plan(TIMES)
    assert steps.left() == 210
    steps.begin("build small")
    clock.now += 200
    steps.end("build small")
    assert steps.left() == 2 * 320, "the first step took twice its time, so will the others"


def test_a_step_that_was_not_planned_changes_nothing(clock: Clock) -> None:
    steps = Progress(TIMES, cores=2)
    steps.plan(["start"])
    steps.begin("build big")
    clock.now += 3000
    steps.end("build big")
    assert steps.left() == 20


def test_a_step_that_takes_longer_than_expected_promises_nothing_negative(clock: Clock) -> None:
    steps = Progress(TIMES, cores=2)
    steps.plan(["build small", "start"])
    steps.begin("build small")
    clock.now += 1000
    assert steps.left() == 20
    steps.end("build small")
    steps.begin("start")
    assert "all:" not in steps.describe("start"), "the last step's time is all of it"


def test_every_build_of_a_first_start_has_its_time() -> None:
    names = [part.name for part in (*helpers.parts(), *engine.compiled_parts())] + list(images.ALL)
    assert {f"build {name}" for name in names} | {"start the cluster"} == progress.TIMES.keys()


# --- what takes the place of another source ---


def test_a_package_is_replaced_whole_and_what_is_not_there_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "vendor" / "cloud"
    (package / "inner").mkdir(parents=True)
    for name in ("manager.go", "more.go", "data.json", "inner/inner.go"):
        (package / name).write_text("original")
    ours = tmp_path / "ours.go"
    ours.write_text("ours")
    gobuild._replace(package, ours)
    kept = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.is_file()}
    assert kept == {"ours.go", "data.json", "inner/inner.go"}
    with pytest.raises(gobuild.ui.SandboxError, match="no such file to replace"):
        gobuild._replace(package / "gone.go", ours)


def test_every_source_that_takes_a_place_is_there_and_used() -> None:
    for part in (parts.engine_part(), *map(parts.plugin_part, parts.PLUGINS)):
        there = {file.relative_to(part.sources).as_posix() for file in part.sources.glob("_trimmed/*")}
        assert there == set(part.replaced.values())
