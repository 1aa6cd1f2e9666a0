"""The image of the rollback controller: Python by its Dockerfile; the engine and the program are put on as layers."""

from __future__ import annotations

import shutil
from pathlib import Path

from sandbox import toolchain, ui
from sandbox.cache import artifact
from sandbox.images import oci
from sandbox.images.buildah import BASE, Builder
from sandbox.images.tasks import PYTHON, wheels
from sandbox.paths import ROOT
from sandbox.toolchain import Toolchain

HERE = Path(__file__).resolve().parent
RECIPE = ROOT / "images" / "controller"
PROGRAM = [
    ROOT / name for name in ("Pulumi.yaml", "__main__.py", "settings", "monitoring", "program", "components", "ops")
]


def layout(below: Path, tools: Toolchain, log: Path) -> Path:
    """OCI layout of the one image `controller`, on the one of `python`; a second when only the program has changed."""
    engine = _engine(tools)

    def build(target: Path) -> None:
        copy = target / "program"
        copy.mkdir()
        for source in PROGRAM:
            if source.is_dir():
                shutil.copytree(source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        # What the Dockerfile's last stage does, without a builder.
        compiling = [PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", copy]
        ui.run([*compiling, *(copy / source.name for source in PROGRAM if source.is_dir())], log=log)
        images = oci.Layout(target / "layout")
        layers = [*images.layers_of(below), *images.layers_of(engine)]
        layers.append(images.layer(oci.pack(target / "program.tar", [(copy, "opt/runbook")])))
        images.image("controller", layers, oci.config(below))
        shutil.rmtree(copy)

    inputs = [*PROGRAM, HERE / "controller.py", HERE / "oci.py", below.parent.name, engine.parent.name]
    return artifact("image-controller", inputs, build) / "layout"


def python(stand: Path, log: Path) -> Path:
    """OCI layout of everything below the engine: Python with the program's packages."""
    requirements = RECIPE / "requirements.txt"

    def build(target: Path) -> None:
        packages = wheels(requirements, target / "wheels", log)
        builder = Builder(target, stand, log)
        arguments = {"BASE": BASE, "ENGINE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        builder.build(
            "python",
            ROOT,
            *("--file", RECIPE / "Dockerfile", "--ignorefile", RECIPE / "Dockerfile.dockerignore"),
            *("--target", "python", "--volume", f"{packages}:/wheels:ro"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        )
        builder.close()
        shutil.rmtree(packages)

    inputs = [RECIPE, HERE / "tasks.py", HERE / "buildah.py", stand.parent.name]
    return artifact("image-controller-python", inputs, build) / "layout"


def _engine(tools: Toolchain) -> Path:
    """OCI layout with one layer: `bin` and `plugins`, as the engine has them in its home."""

    def build(target: Path) -> None:
        home = target / "home"
        (home / "bin").mkdir(parents=True)
        for program in tools.bin.glob("pulumi*"):
            shutil.copy(program, home / "bin")
        toolchain.install_plugins(home, tools)
        for link in (home / "plugins").glob("*/*"):
            there = link.resolve()
            link.unlink()
            shutil.copy(there, link)
        images = oci.Layout(target / "layout")
        images.image("engine", [images.layer(oci.pack(target / "engine.tar", [(home, "opt/pulumi")]))], {})
        shutil.rmtree(home)

    made_of = [f"{program.name} {program.resolve()}" for program in sorted(tools.bin.glob("pulumi*"))]
    made_of += [f"{name} {path}" for name, path in sorted(tools.plugins.items())]
    return artifact("image-controller-engine", [*made_of, HERE / "controller.py", HERE / "oci.py"], build) / "layout"
