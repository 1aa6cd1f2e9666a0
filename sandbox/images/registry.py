"""Pushes images to the registry from which the cluster pulls: plain HTTP on loopback."""

from __future__ import annotations

import http.client
from pathlib import Path

from sandbox import ui
from sandbox.images.oci import MANIFEST, digests


def push(layout: Path, tag: str, registry: str, repository: str, name: str, log: Path) -> str:
    """Make `layout`'s image `tag` be `registry/repository:name`; its reference by digest is returned.

    Nothing is sent when the registry already has exactly this image under this name.
    """
    digest = digests(layout)[tag]
    if _served_digest(registry, repository, name) != digest:
        options = ["--preserve-digests", "--dest-tls-verify=false"]
        target = f"docker://{registry}/{repository}:{name}"
        ui.run(["skopeo", "copy", *options, f"oci:{layout}:{tag}", target], log=log)
    return f"{registry}/{repository}@{digest}"


def _served_digest(registry: str, repository: str, name: str) -> str | None:
    connection = http.client.HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{repository}/manifests/{name}", headers={"Accept": MANIFEST})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise ui.SandboxError(f"no registry answers at {registry} ({error}): run `make up`") from error
    finally:
        connection.close()
    if answer.status not in (200, 404):
        raise ui.SandboxError(f"the registry at {registry} answered {answer.status} for {repository}:{name}")
    return answer.getheader("Docker-Content-Digest")
