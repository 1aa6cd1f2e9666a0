"""OCI image layouts, written directly: an image is layers (tar files), a configuration, and a manifest naming both.

Where an image only gathers files, no builder has to run. Layers stay uncompressed: everything
remains on this machine, and what images share is stored and copied once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EPOCH = 1_735_689_600
"""Date of every file and image: the same content gives the same digest whenever it is built."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_TAG = "org.opencontainers.image.ref.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

Json = dict[str, Any]


class Layout:
    """A folder of images that is being filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._manifests: list[Json] = []
        self._blobs.mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def layer(self, tar: Path) -> Json:
        """Take a tar file in as a layer; the file is moved."""
        with tar.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        size = tar.stat().st_size
        tar.rename(self._blobs / digest)
        return {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": size}

    def layers_of(self, layout: Path) -> list[Json]:
        """Layers of the only image of another layout, linked into this one."""
        manifest = _blob(layout, next(iter(digests(layout).values())))
        for layer in manifest["layers"]:
            name = layer["digest"].removeprefix("sha256:")
            _link(str(layout / "blobs" / "sha256" / name), str(self._blobs / name))
        return manifest["layers"]

    def image(self, tag: str, layers: list[Json], config: Mapping[str, object]) -> None:
        """Name an image made of `layers`, lowest first."""
        created = datetime.fromtimestamp(EPOCH, UTC).isoformat()
        machine = platform.machine()
        described = {
            "created": created,
            "architecture": _ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": config,
            # A layer that is not compressed is its own diff.
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            "history": [{"created": created, "created_by": "sandbox.images"} for _ in layers],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._json(_CONFIG, described),
            "layers": layers,
        }
        self._manifests.append({**self._json(MANIFEST, manifest), "annotations": {_TAG: tag}})
        index = {"schemaVersion": 2, "manifests": self._manifests}
        (self.path / "index.json").write_text(json.dumps(index, indent=2))

    def _json(self, kind: str, content: Json) -> Json:
        data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}


def pack(target: Path, folders: Iterable[tuple[Path, str]]) -> Path:
    """Write `target`, a tar of folders, each under a path in the image, with nothing of this machine in it."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, inside in folders:
            for path in sorted(folder.rglob("*")):
                tar.add(path, f"{inside}/{path.relative_to(folder)}", recursive=False, filter=_anonymous)
    return target


def digests(layout: Path) -> dict[str, str]:
    """Tag → manifest digest of every image in a layout."""
    index = json.loads((layout / "index.json").read_text())
    return {entry["annotations"][_TAG]: entry["digest"] for entry in index["manifests"]}


def config(layout: Path) -> Json:
    """How the only image of a layout is to be run: user, variables, command."""
    manifest = _blob(layout, next(iter(digests(layout).values())))
    return _blob(layout, manifest["config"]["digest"])["config"]


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = EPOCH
    entry.mode = 0o755 if entry.isdir() or entry.issym() or entry.mode & 0o100 else 0o644
    return entry


def _blob(layout: Path, digest: str) -> Json:
    return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())


def _link(source: str, target: str) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
