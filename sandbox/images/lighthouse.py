"""The image of Lighthouse: what its Dockerfile makes, with Node, the npm package and the tasks' code as layers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact
from sandbox.images import oci, shop
from sandbox.images.buildah import BASE, Builder
from sandbox.images.tasks import PYTHON
from sandbox.paths import ROOT

HERE = Path(__file__).resolve().parent
SOURCE = ROOT / "tasks"
RECIPE = ROOT / "images" / "lighthouse"


def layout(stand: Path, log: Path) -> Path:
    """OCI layout of the one image `lighthouse`; seconds when only tasks/ has changed."""
    below, node, made = browser(stand, log), shop.node(log), packages(log)

    def build(target: Path) -> None:
        copy = target / "tasks"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        # What the Dockerfile's last stages do, without a builder.
        compiling = [PYTHON, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        ui.run([*compiling, "-s", copy, "-p", "tasks", copy], log=log)
        images = oci.Layout(target / "layout")
        layers = images.layers_of(below)
        for folder, inside in (
            (node / "bin", "opt/lighthouse/bin"),
            (made / "node_modules", "opt/lighthouse/node_modules"),
            (copy, "opt/tasks/tasks"),
        ):
            layers.append(images.layer(oci.pack(target / "layer.tar", [(folder, inside)])))
        images.image("lighthouse", layers, oci.config(below))
        shutil.rmtree(copy)

    inputs = [SOURCE, HERE / "lighthouse.py", HERE / "oci.py", below.parent.name, node.name, made.name]
    return artifact("image-lighthouse", inputs, build) / "layout"


def browser(stand: Path, log: Path) -> Path:
    """OCI layout of everything below Node: Chromium, a font, Python."""

    def build(target: Path) -> None:
        builder = Builder(target, stand, log)
        options = ["--file", RECIPE / "Dockerfile", "--ignorefile", RECIPE / "Dockerfile.dockerignore"]
        builder.build("browser", ROOT, *options, "--target", "browser", f"--build-arg=BASE={BASE}")
        builder.close()

    inputs = [RECIPE / "Dockerfile", HERE / "lighthouse.py", HERE / "buildah.py", stand.parent.name]
    return artifact("image-lighthouse-browser", inputs, build) / "layout"


def packages(log: Path) -> Path:
    """Folder with `node_modules`, exactly as the lock file says."""
    node = shop.node(log)
    recipe = [RECIPE / name for name in ("package.json", "package-lock.json", ".npmrc")]

    def build(target: Path) -> None:
        for file in recipe:
            shutil.copy(file, target)
        env = {**os.environ, "PATH": f"{node / 'bin'}:{os.environ['PATH']}"}
        quiet = ["--no-fund", "--no-audit", "--no-update-notifier"]
        ui.run(["npm", "ci", "--ignore-scripts", "--omit=dev", *quiet], cwd=target, env=env, log=log)

    return artifact("image-lighthouse-packages", [*recipe, node.name, sys.platform], build)
