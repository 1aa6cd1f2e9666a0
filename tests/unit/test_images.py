"""`make images`: which tool builds, what is tested before a push, and what is printed. No image is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from images.__main__ import main
from images.publish import render_lines
from images.recipes import RECIPES, ROOT
from images.tools import CommandFailed, Commands
from settings import StackSettings

REGISTRY = "registry.example.com/shop"
DIGEST = "sha256:" + "12" * 32
COMMIT = "0123456789abcdef" * 2 + "01234567"


class Recorded(Commands):
    """Records what would be run. `broken`: the beginning of commands that fail, and what they print."""

    def __init__(
        self, *there: str, broken: Mapping[str, str] | None = None, user: str = "10001", changed: bool = False
    ) -> None:
        self.there, self.broken, self.user, self.changed = there, broken or {}, user, changed
        self.ran: list[str] = []

    def find(self, program: str) -> bool:
        return program in self.there

    def run(self, *argv: str, shown: bool = False) -> str:
        line = " ".join(argv)
        self.ran.append(line)
        for begin, said in self.broken.items():
            if begin in line:
                raise CommandFailed(f"`{line}` failed with exit code 1:\n{said}")
        if "--digestfile" in argv:
            Path(argv[argv.index("--digestfile") + 1]).write_text(DIGEST + "\n")
        answers = {
            "git rev-parse": COMMIT,
            "git status": " M ops/x.py" if self.changed else "",
            "docker image inspect": f'["other.example.com/x@sha256:1","{argv[-1].rpartition(":")[0]}@{DIGEST}"]',
            "buildah from": "working-container",
        }
        for begin, answer in answers.items():
            if line.startswith(begin):
                return answer
        if line.endswith("id -u"):
            return self.user
        return "pg_dump (PostgreSQL) 17.5, version 17" if "pg_dump" in line else "usage"

    def of(self, word: str) -> list[int]:
        """Where in the order of commands this one was run."""
        return [place for place, line in enumerate(self.ran) if f" {word} " in f" {line} "]


def test_the_first_tool_that_works_builds_and_it_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recorded("docker", "podman", broken={"docker version": "Cannot connect to the Docker daemon"})
    assert main(["--registry", REGISTRY, "tasks"], commands) == 0
    said = capsys.readouterr().err
    assert "Building with podman: docker does not work here: Cannot connect to the Docker daemon; podman works." in said
    assert main(["--registry", REGISTRY, "tasks"], Recorded("docker", "podman", "buildah")) == 0
    assert "Building with docker: docker works." in capsys.readouterr().err
    assert main(["--registry", REGISTRY, "tasks", "--tool", "buildah"], Recorded("docker", "buildah")) == 0
    assert "Building with buildah: it was asked for." in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_everything_is_built_then_tested_then_pushed(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recorded(tool)
    assert main(["--registry", REGISTRY], commands) == 0
    built, pushed = commands.of("build"), commands.of("push")
    tested = [place for place, line in enumerate(commands.ran) if line.endswith(("--version", "--help", "id -u"))]
    assert (len(built), len(pushed)) == (len(RECIPES), len(RECIPES))
    assert max(built) < min(tested) < max(tested) < min(pushed)
    lines = yaml.safe_load(capsys.readouterr().out)["config"]
    assert lines["runbook:image"] == f"{REGISTRY}/runbook-tasks@{DIGEST}"
    assert lines["runbook:monitoring"] == {
        "image": f"{REGISTRY}/runbook-monitoring@{DIGEST}",
        "rollback": {"image": f"{REGISTRY}/runbook-controller@{DIGEST}"},
    }
    assert lines["runbook:performance"] == {"image": f"{REGISTRY}/runbook-lighthouse@{DIGEST}"}


def test_how_each_tool_builds_and_runs() -> None:
    docker, podman, buildah = (Recorded(name) for name in ("docker", "podman", "buildah"))
    for commands in (docker, podman, buildah):
        assert main(["--registry", REGISTRY, "controller", "--build-arg", "ENGINE=x/engine:1"], commands) == 0
    reference = f"{REGISTRY}/runbook-controller:{COMMIT[:12]}"
    options = f"--build-arg ENGINE=x/engine:1 --label org.opencontainers.image.revision={COMMIT} --tag {reference} ."
    file = "--file images/controller/Dockerfile"
    ignored = "--ignorefile images/controller/Dockerfile.dockerignore"
    assert f"docker build --pull {file} {options}" in docker.ran
    assert f"podman build --pull {file} {ignored} {options}" in podman.ran
    assert f"buildah build --pull {file} {ignored} {options}" in buildah.ran
    limits = "--rm --read-only --tmpfs /tmp --network none --cap-drop ALL"
    assert f"podman run {limits} {reference} pulumi version" in podman.ran
    assert "buildah run working-container -- pulumi version" in buildah.ran
    assert len(buildah.of("rm")) == len(buildah.of("from"))


def test_the_clients_of_postgresql_are_tried_and_their_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recorded("docker")
    assert main(["--registry", REGISTRY, "tasks"], commands) == 0
    ran = [line.rpartition(COMMIT[:12])[2].strip() for line in commands.ran if line.startswith("docker run")]
    assert {"psql --version", "pg_dump --version", "pg_restore --version", "python3 -m tasks --help"} <= set(ran)
    assert "backups: pg_dump (PostgreSQL) 17.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        (Recorded("podman", broken={"pg_restore --version": "not found"}), "restores: `podman run"),
        (Recorded("podman", user="0"), "runs as user 0 instead of 10001"),
        (Recorded("podman", broken={"podman build": "no such base"}), "`podman build"),
    ],
)
def test_an_image_that_fails_keeps_every_image_from_being_pushed(
    commands: Recorded, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--registry", REGISTRY], commands) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert not commands.of("push")


def test_a_container_of_buildah_is_removed_when_its_command_fails() -> None:
    commands = Recorded("buildah", broken={"buildah run": "crashed"})
    assert main(["--registry", REGISTRY, "tasks"], commands) == 1
    assert commands.ran[-1] == "buildah rm working-container"


@pytest.mark.parametrize(
    ("arguments", "there", "words"),
    [
        ([], ("docker",), "REGISTRY is missing, and nothing was changed"),
        (["--registry", "https://registry.example.com"], ("docker",), "without https://"),
        (["--registry", "registry.example.com/shop:1"], ("docker",), "without https://, tag or digest"),
        (["--registry", "acme"], ("docker",), "name the host, too"),
        (["--registry", REGISTRY, "shop"], ("docker",), "There are: tasks, monitoring, controller, lighthouse"),
        (["--registry", REGISTRY], (), "docker is not installed; podman is not installed; buildah is not installed"),
        (["--registry", REGISTRY, "--build-arg", "BASE"], ("docker",), "is not NAME=VALUE"),
        (["--registry", REGISTRY, "--build-arg", "BASES=x"], ("docker",), "has an argument BASES"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_changes(
    arguments: list[str], there: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Recorded(*there)
    assert main(arguments, commands) == 1
    assert words in capsys.readouterr().err
    assert not [line for line in commands.ran if not line.startswith(("git ", "docker version"))]


def test_a_login_is_neither_built_into_an_image_nor_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recorded("docker")
    index = "PIP_INDEX_URL=https://ci:canary-5f0c2e@pypi.example.com/simple"
    assert main(["--registry", REGISTRY, "tasks", "--build-arg", index], commands) == 1
    printed = capsys.readouterr()
    assert "--build-arg PIP_INDEX_URL: its URL has a login" in printed.err
    assert "canary" not in printed.out + printed.err + "".join(commands.ran)
    assert main(["--registry", REGISTRY, "tasks", "--build-arg", index.replace("ci:canary-5f0c2e@", "")], commands) == 0


@pytest.mark.parametrize(
    "registry", ["localhost:5000", "registry.example.com", "r.example.com:5000/a/b-c", "10.0.0.1:5000"]
)
def test_registries_that_are_accepted(registry: str) -> None:
    assert main(["--registry", registry, "tasks"], Recorded("docker")) == 0


def test_a_checkout_with_changes_says_so_in_the_tag(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Recorded("docker", changed=True)
    assert main(["--registry", REGISTRY, "tasks"], commands) == 0
    assert f"docker push {REGISTRY}/runbook-tasks:{COMMIT[:12]}-changed" in commands.ran
    assert "that are in no commit" in capsys.readouterr().err


def test_there_is_a_recipe_for_each_dockerfile_and_its_key_is_a_setting() -> None:
    assert {file.parent.name for file in ROOT.glob("images/*/Dockerfile")} == {recipe.name for recipe in RECIPES}
    keys = {f"runbook:{field.alias or name}" for name, field in StackSettings.model_fields.items()}
    assert {recipe.key[0] for recipe in RECIPES} <= keys
    assert all("BASE" in recipe.arguments and (ROOT / recipe.context).is_dir() for recipe in RECIPES)


def test_the_lines_of_one_image_are_a_stack_file_too() -> None:
    controller = next(recipe for recipe in RECIPES if recipe.name == "controller")
    assert yaml.safe_load(render_lines({controller: "x@y"})) == {
        "config": {"runbook:monitoring": {"rollback": {"image": "x@y"}}}
    }


def test_the_gates_program_is_tried_where_pods_start_it() -> None:
    """The image's PATH has no /usr/sbin: a check by the bare name refused every image that was really built."""
    [tasks] = [recipe for recipe in RECIPES if recipe.name == "tasks"]
    path, *_ = tasks.checks["the lockdown's gate"]
    assert f"exec {path} " in (ROOT / "components" / "lockdown.py").read_text()
