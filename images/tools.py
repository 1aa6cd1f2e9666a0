"""docker, podman or buildah: one of them builds, runs and pushes images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.recipes import ROOT, Recipe


class ImageError(Exception):
    """What is wrong, and what to do instead."""


class CommandFailed(ImageError):
    """A program ended with another code than 0."""


class Commands:
    """Runs programs; tests record them instead."""

    def find(self, program: str) -> bool:
        """Whether there is such a program."""
        return shutil.which(program) is not None

    def run(self, *argv: str, shown: bool = False) -> str:
        """What it printed. `shown`: on the terminal instead, while it runs."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        out = None if shown else subprocess.PIPE
        errors = None if shown else subprocess.STDOUT
        ended = subprocess.run(argv, cwd=ROOT, env=environment, stdout=out, stderr=errors, text=True, check=False)
        if ended.returncode:
            said = "" if shown else f":\n{(ended.stdout or '').strip()}"
            raise CommandFailed(f"`{' '.join(argv)}` failed with exit code {ended.returncode}{said}")
        return (ended.stdout or "").strip()


@dataclass(frozen=True)
class Tool:
    """How one of the programs is called."""

    name: str
    commands: Commands

    def build(self, recipe: Recipe, reference: str, arguments: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """Build one image; what the build prints is shown."""
        words = [self.name, "build", "--pull", "--file", str(recipe.dockerfile.relative_to(ROOT))]
        # docker finds it by its name.
        if self.name != "docker" and recipe.ignore_file:
            words += ["--ignorefile", str(recipe.ignore_file.relative_to(ROOT))]
        for name, value in arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for name, value in labels.items():
            words += ["--label", f"{name}={value}"]
        self.commands.run(*words, "--tag", reference, recipe.context, shown=True)

    def open(self, reference: str) -> Callable[[Sequence[str]], str]:
        """A function that runs a command in this image, as the image's user; and what it printed."""
        if self.name != "buildah":
            limits = ("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")  # noqa: S108
            return lambda argv: self.commands.run(self.name, "run", *limits, reference, *argv)

        def run(argv: Sequence[str]) -> str:
            container = self.commands.run("buildah", "from", "--pull-never", reference).splitlines()[-1]
            try:
                return self.commands.run("buildah", "run", container, "--", *argv)
            finally:
                self.commands.run("buildah", "rm", container)

        return run

    def push(self, reference: str) -> str:
        """Push an image; its digest in the registry."""
        if self.name == "docker":
            self.commands.run("docker", "push", reference, shown=True)
            repository = reference.rpartition(":")[0]
            digests = json.loads(self.commands.run("docker", "image", "inspect", "--format", _DIGESTS, reference))
            found = [each.partition("@")[2] for each in digests if each.startswith(f"{repository}@")]
            if len(found) == 1:
                return found[0]
            raise ImageError(f"docker knows no single digest of {reference} in its registry, but: {digests}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "digest"
            self.commands.run(self.name, "push", "--digestfile", str(file), reference, shown=True)
            return file.read_text().strip()


_DIGESTS = "{{json .RepoDigests}}"
_ASKED = {
    "docker": ("docker", "version", "--format", "{{.Server.Version}}"),
    "podman": ("podman", "info"),
    "buildah": ("buildah", "info"),
}
"""What shows whether each can build here, in the order in which they are tried."""


def choose_tool(commands: Commands, wanted: str | None, say: Callable[[str], None]) -> Tool:
    """The first of docker, podman and buildah that works, or the wanted one; and why."""
    refused: list[str] = []
    for name in [wanted] if wanted else list(_ASKED):
        if not commands.find(name):
            refused.append(f"{name} is not installed")
            continue
        try:
            commands.run(*_ASKED[name])
        except CommandFailed as error:
            refused.append(f"{name} does not work here: {str(error).splitlines()[-1]}")
            continue
        why = "it was asked for" if wanted else "; ".join([*refused, f"{name} works"])
        say(f"Building with {name}: {why}.")
        return Tool(name, commands)
    raise ImageError(
        f"Nothing can build images here, and nothing was changed: {'; '.join(refused)}. Install docker, podman or "
        "buildah (`apt-get install buildah`), or start docker's daemon"
    )
