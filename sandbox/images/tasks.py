"""The image of the tasks: what its Dockerfile makes, with the tasks' code as a layer of its own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.images import oci
from sandbox.images.buildah import BASE, Builder
from sandbox.paths import ROOT

HERE = Path(__file__).resolve().parent
SOURCE = ROOT / "tasks"
RECIPE = ROOT / "images" / "tasks"
PYTHON = "/usr/bin/python3"
"""The distribution's: the images follow this machine's release, so theirs is the same."""


def layout(stand: Path, log: Path) -> Path:
    """OCI layout of the one image `tasks`; seconds when only tasks/ has changed."""
    below = programs(stand, log)

    def build(target: Path) -> None:
        copy = target / "tasks"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        # What the Dockerfile's last stage does, without a builder.
        compiling = [PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        ui.run([*compiling, "-s", copy, "-p", "tasks", copy], log=log)
        images = oci.Layout(target / "layout")
        layers = images.layers_of(below)
        layers.append(images.layer(oci.pack(target / "layer.tar", [(copy, "opt/tasks/tasks")])))
        images.image("tasks", layers, oci.config(below))
        shutil.rmtree(copy)

    inputs = [SOURCE, HERE / "tasks.py", HERE / "oci.py", below.parent.name]
    return artifact("image-tasks", inputs, build) / "layout"


def programs(stand: Path, log: Path) -> Path:
    """OCI layout of everything below tasks/: Python with its packages, PostgreSQL's programs."""
    requirements = RECIPE / "requirements.txt"

    def build(target: Path) -> None:
        packages = wheels(requirements, target / "wheels", log)
        builder = Builder(target, stand, log)
        arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        builder.build(
            "programs",
            ROOT,
            *("--file", RECIPE / "Dockerfile", "--ignorefile", RECIPE / "Dockerfile.dockerignore"),
            *("--target", "programs", "--volume", f"{packages}:/wheels:ro"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        )
        builder.close()
        shutil.rmtree(packages)

    inputs = [RECIPE, HERE / "tasks.py", HERE / "buildah.py", stand.parent.name]
    return artifact("image-tasks-programs", inputs, build) / "layout"


def wheels(requirements: Path, target: Path, log: Path) -> Path:
    """The packages, downloaded by this machine's own pip, which has its index and certificates configured."""
    version = ui.run([PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--python-version", version, "--dest", str(target)]
    ui.run([*command, "--requirement", requirements], log=log)
    return target
