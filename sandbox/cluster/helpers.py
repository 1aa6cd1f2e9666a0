"""The node's own small programs, built from the Go sources beside this file, and the pause image."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.cache import artifact
from sandbox.cluster import layout
from sandbox.toolchain import gobuild
from sandbox.toolchain.gobuild import Part
from sandbox.toolchain.parts import cluster_part, node_part

_HERE = Path(__file__).resolve().parent
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Helpers:
    etcd: Path
    forwarder: Path
    provisioner: Path
    pause_image: Path


def node_tools() -> Part:
    return Part(folder=_HERE / "node-tools", programs={name: f"./{name}" for name in ("forwarder", "pause")})


def parts() -> list[Part]:
    """Everything that is compiled for the node."""
    return [cluster_part(), *map(node_part, ("coredns", "kube-router", "etcd", "provisioner")), node_tools()]


def build() -> Helpers:
    tools = gobuild.build(node_tools())
    alone = {name: gobuild.build(node_part(name)) / name for name in ("etcd", "provisioner")}
    image = artifact(
        "pause-image",
        [tools / "pause", layout.PAUSE_IMAGE],
        lambda out: _pack(tools / "pause", out / "image.tar"),
    )
    return Helpers(
        etcd=alone["etcd"],
        forwarder=tools / "forwarder",
        provisioner=alone["provisioner"],
        pause_image=image / "image.tar",
    )


def _pack(program: Path, archive: Path) -> None:
    """An OCI image archive that holds one static program and nothing else."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(entry, content)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.getvalue())]},
    }
    blobs: list[bytes] = []

    def blob(media_type: str, content: bytes) -> dict[str, object]:
        blobs.append(content)
        return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}

    prefix = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": blob(f"{prefix}.config.v1+json", json.dumps(config).encode()),
        "layers": [blob(f"{prefix}.layer.v1.tar", layer.getvalue())],
    }
    entry_point = blob(f"{prefix}.manifest.v1+json", json.dumps(manifest).encode())
    entry_point["annotations"] = {"io.containerd.image.name": layout.PAUSE_IMAGE}
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry_point]}).encode(),
    } | {f"blobs/sha256/{hashlib.sha256(content).hexdigest()}": content for content in blobs}
    with tarfile.open(archive, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
