"""Images that need commands run inside them, built from Dockerfiles by buildah."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sandbox import ui
from sandbox.images.oci import EPOCH

BASE = "localhost/base:latest"


class Builder:
    """Turns Dockerfiles, which start from `localhost/base`, into images of the layout `target/layout`.

    buildah's storage lies beside that layout and goes with `close`: nothing is left in the
    machine's own container storage.
    """

    def __init__(self, target: Path, base: Path, log: Path) -> None:
        self.layout = target / "layout"
        self._storage = target / "storage"
        self._log = log
        root, run = self._storage / "root", self._storage / "run"
        self._buildah = ["buildah", "--root", root, "--runroot", run]
        # buildah takes a layout's path for a name, and not every path is a valid one: skopeo names it.
        driver = json.loads(ui.run([*self._buildah, "info"], log=log))["store"]["GraphDriverName"]
        self._stored = f"containers-storage:[{driver}@{root}+{run}]"
        ui.run(["skopeo", "copy", f"oci:{base}", f"{self._stored}{BASE}"], log=log)

    def build(self, tag: str, context: Path, *more: str | Path) -> None:
        options = ["--isolation", "chroot", "--timestamp", str(EPOCH), "--format", "oci", "--tag", tag]
        ui.run([*self._buildah, "bud", *options, *more, context], log=self._log)
        # Not compressed, as all layers here: the base stays one layer with one digest for every image.
        copy = ["skopeo", "copy", "--dest-oci-accept-uncompressed-layers"]
        ui.run([*copy, f"{self._stored}localhost/{tag}:latest", f"oci:{self.layout}:{tag}"], log=self._log)

    def close(self) -> None:
        ui.run([*self._buildah, "rmi", "--all", "--force"], log=self._log)
        shutil.rmtree(self._storage)
