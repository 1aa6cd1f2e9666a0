"""Building images with buildah into OCI layouts, and pushing these to a registry."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from sandbox import ui
from sandbox.images.base import EPOCH

BASE = "localhost/base:latest"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


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
            # buildah takes the path of a layout for a name, and not every path is a valid one: skopeo names it.
            driver = json.loads(ui.run([*self._buildah, "info"], log=log))["store"]["GraphDriverName"]
            ui.run(["skopeo", "copy", f"oci:{base}", f"containers-storage:[{driver}@{root}+{run}]{BASE}"], log=log)

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
        ui.run([*self._buildah, "push", tag, f"oci:{self.layout}:{tag}"], log=self._log)

    def close(self) -> None:
        ui.run([*self._buildah, "rmi", "--all", "--force"], log=self._log)
        shutil.rmtree(self._storage)


def digests(layout: Path) -> dict[str, str]:
    """Tag → manifest digest of every image in an OCI layout."""
    index = json.loads((layout / "index.json").read_text())
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index["manifests"]}


def push(layout: Path, tag: str, registry: str, repository: str, name: str, log: Path) -> str:
    """Make `layout`'s image `tag` be `registry/repository:name`; its reference by digest is returned.

    Nothing is sent when the registry already has exactly this image under this name.
    """
    digest = digests(layout)[tag]
    if _served_digest(registry, repository, name) != digest:
        ui.run(
            ["skopeo", "copy", "--preserve-digests", "--dest-tls-verify=false",
             f"oci:{layout}:{tag}", f"docker://{registry}/{repository}:{name}"],
            log=log,
        )  # fmt: skip
    return f"{registry}/{repository}@{digest}"


def _served_digest(registry: str, repository: str, name: str) -> str | None:
    request = urllib.request.Request(
        f"http://{registry}/v2/{repository}/manifests/{name}", method="HEAD", headers={"Accept": MANIFEST}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.headers.get("Docker-Content-Digest")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise ui.SandboxError(f"the registry at {registry} answered {error.code} for {repository}:{name}") from error
    except (urllib.error.URLError, OSError) as error:
        raise ui.SandboxError(f"no registry answers at {registry} ({error}); is the sandbox up?") from error
