"""The guestbook's images: what its Dockerfile makes, and a thin layer for each release."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sandbox.cache import artifact, content_key
from sandbox.images import oci
from sandbox.images.buildah import BASE, Builder
from sandbox.images.tasks import wheels
from sandbox.paths import ROOT

HERE = Path(__file__).resolve().parent
SOURCE = ROOT / "sandbox" / "guestbook"
RELEASES = SOURCE / "releases"
_RECIPE = [SOURCE / "Dockerfile", SOURCE / "requirements.txt"]


def layout(stand: Path, log: Path) -> Path:
    """OCI layout with one image for each file in releases/: the same packages, and the code with what differs."""
    below = _python(stand, log)

    def build(target: Path) -> None:
        images = oci.Layout(target / "layout")
        shared = images.layers_of(below)
        for file in sorted(RELEASES.glob("*.json")):
            content = target / "release"
            release = json.loads(file.read_text())
            _assemble(release, content)
            own = images.layer(oci.pack(target / "layer.tar", [(content, "srv/guestbook")]))
            shutil.rmtree(content)
            labels = {
                "org.opencontainers.image.title": "guestbook",
                "org.opencontainers.image.version": release["version"],
                "org.opencontainers.image.revision": content_key([own["digest"]])[:12],
                **{f"runbook.schema.{name}": str(release["schema"][name]) for name in ("min", "max", "level")},
            }
            images.image(file.stem, [*shared, own], {**oci.config(below), "Labels": labels})

    inputs = [SOURCE / "guestbook", RELEASES, HERE / "guestbook.py", HERE / "oci.py", below.parent.name]
    return artifact("image-guestbook", inputs, build) / "layout"


def _assemble(release: dict[str, object], content: Path) -> None:
    """The code, with the release's description and its migrations alone, and the folders that pods mount."""
    copy = content / "guestbook"
    shutil.copytree(SOURCE / "guestbook", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "release.json").write_text(json.dumps(release))
    kept = release["migrations"]
    assert isinstance(kept, list)
    for migration in (copy / "migrations").glob("*.py"):
        if migration.name not in (*kept, "__init__.py"):
            migration.unlink()
    for folder in ("cache", "uploads"):
        (content / folder).mkdir()


def _python(stand: Path, log: Path) -> Path:
    """OCI layout of everything below the code: Python with the guestbook's packages."""

    def build(target: Path) -> None:
        packages = wheels(SOURCE / "requirements.txt", target / "wheels", log)
        builder = Builder(target, stand, log)
        arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        builder.build(
            "python",
            SOURCE,
            *("--file", SOURCE / "Dockerfile", "--target", "python", "--volume", f"{packages}:/wheels:ro"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        )
        builder.close()
        shutil.rmtree(packages)

    inputs = [*_RECIPE, HERE / "guestbook.py", HERE / "tasks.py", HERE / "buildah.py", stand.parent.name]
    return artifact("image-guestbook-python", inputs, build) / "layout"
