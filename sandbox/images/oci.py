"""Building images with buildah into OCI layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from sandbox import ui
from sandbox.images.base import EPOCH

BASE = "localhost/base:latest"


class Builder:
    """Turns Dockerfiles into tagged images of one OCI layout.

    buildah's storage lies inside the artifact being built and goes with `close`:
    nothing is left in the machine's own container storage. `base` is the layout
    of an image that Dockerfiles start from as `localhost/base`.
    """

    def __init__(self, target: Path, log: Path, *, base: Path | None = None) -> None:
        self.layout = target / "layout"
        self._storage = target / "storage"
        self._log = log
        root, run = self._storage / "root", self._storage / "run"
        self._buildah = ["buildah", "--root", root, "--runroot", run]
        if base:
            # buildah takes a layout's path for a name, and not every path is a valid one: skopeo names it.
            driver = json.loads(ui.run([*self._buildah, "info"], log=log))["store"]["GraphDriverName"]
            stored = f"containers-storage:[{driver}@{root}+{run}]{BASE}"
            ui.run(["skopeo", "copy", f"oci:{base}", stored], log=log)

    def build(
        self,
        tag: str,
        context: Path,
        *,
        dockerfile: Path | None = None,
        arguments: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Build `context` as `tag`."""
        command = [*self._buildah, "bud", "--isolation", "chroot", "--layers", "--timestamp", str(EPOCH)]
        command += ["--format", "oci", "--file", dockerfile or context / "Dockerfile", "--tag", tag]
        command += [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        command += [f"--label={name}={value}" for name, value in (labels or {}).items()]
        ui.run([*command, context], log=self._log)
        # Not compressed: everything stays on this machine, and layers that images share are copied once.
        push = [*self._buildah, "push", "--disable-compression"]
        ui.run([*push, tag, f"oci:{self.layout}:{tag}"], log=self._log)

    def close(self) -> None:
        ui.run([*self._buildah, "rmi", "--all", "--force"], log=self._log)
        shutil.rmtree(self._storage)


def digests(layout: Path) -> dict[str, str]:
    """Tag → manifest digest of every image in an OCI layout."""
    index = json.loads((layout / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    return {entry["annotations"][name]: entry["digest"] for entry in index["manifests"]}
