"""Configuration files and manifests: the templates beside this file, filled in."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import packages
from sandbox.cluster import layout
from sandbox.cluster.helpers import Helpers
from sandbox.cluster.ports import Ports
from sandbox.ui import SandboxError

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Inputs:
    """What differs from machine to machine and from build to build."""

    binaries: Path
    helpers: Helpers
    ports: Ports

    def values(self) -> Mapping[str, str]:
        certificate = (layout.PKI / "ingress.crt").read_bytes()
        return {
            "CGROUP": layout.CGROUP,
            "CNI_BIN": str(Path(packages.require("ptp")).parent),
            "CONF": str(layout.CONF),
            "COREDNS": str((self.binaries / "coredns").resolve()),
            "DNS_IP": layout.DNS_IP,
            "ENCRYPTION_KEY": (layout.PKI / "encryption.key").read_text(),
            "INGRESS_CERTIFICATE": base64.b64encode(certificate).decode(),
            "INGRESS_CERTIFICATE_HASH": hashlib.sha256(certificate).hexdigest()[:16],
            "INGRESS_IP": layout.INGRESS_IP,
            "INGRESS_KEY": base64.b64encode((layout.PKI / "ingress.key").read_bytes()).decode(),
            "KUBECONFIGS": str(layout.KUBECONFIGS),
            "NODE": layout.NODE,
            "NODE_IP": layout.NODE_IP,
            "NODE_POD_CIDR": layout.NODE_POD_CIDR,
            "PAUSE_IMAGE": layout.PAUSE_IMAGE,
            "PKI": str(layout.PKI),
            "POD_CIDR": layout.POD_CIDR,
            "REGISTRY_PORT": str(self.ports.registry),
            "REGISTRY_SECRET": (layout.PKI / "registry.key").read_text(),
            "SNAPSHOTTER": _snapshotter(),
            "S3_ACCESS_KEY": (layout.PKI / "s3-access.key").read_text(),
            "S3_SECRET_KEY": (layout.PKI / "s3-secret.key").read_text(),
            "TRAEFIK": str(find_beside_python("traefik")),
        }


def write(inputs: Inputs, supervisor: str) -> bool:
    """Write every file; whether any of those the node's programs read at their start has changed."""
    values = inputs.values()
    files = {layout.CONF / source.name: _fill(source, values) for source in (_HERE / "conf").iterdir()}
    files[layout.CONF / "cni" / "10-pods.conflist"] = files.pop(layout.CONF / "10-pods.conflist")
    registry = f"localhost:{inputs.ports.registry}"
    files[layout.CONF / "registries" / registry / "hosts.toml"] = f'server = "http://{registry}"\n'
    files[layout.CONF / "supervisord.conf"] = supervisor
    for user in (
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubelet",
        "kube-router",
        "provisioner",
    ):
        files[layout.KUBECONFIGS / user] = _kubeconfig(user, inputs.ports)
    files[layout.KUBECONFIG] = _kubeconfig("admin", inputs.ports)
    files[layout.CONF / "certificates"] = _fingerprint()
    changed = [_write(path, content) for path, content in files.items()]
    for source in (_HERE / "manifests").iterdir():
        _write(layout.MANIFESTS / source.name, _fill(source, values))
    return any(changed)


def _fill(source: Path, values: Mapping[str, str]) -> str:
    return string.Template(source.read_text()).substitute(values)


def _write(path: Path, content: str) -> bool:
    if path.exists() and path.read_text() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_text(content)
    return True


def _fingerprint() -> str:
    """Changes when a certificate of the node does, so that programs which hold an old one are restarted."""
    digest = hashlib.sha256()
    for file in sorted(layout.PKI.glob("*.crt")):
        if not file.name.startswith("ingress"):
            digest.update(file.read_bytes())
    return digest.hexdigest() + "\n"


def _kubeconfig(user: str, ports: Ports) -> str:
    def encoded(name: str) -> str:
        return base64.b64encode((layout.PKI / name).read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "sandbox",
                "cluster": {
                    "server": f"https://127.0.0.1:{ports.api}",
                    "certificate-authority-data": encoded("cluster-ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(f"{user}.crt"),
                    "client-key-data": encoded(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
        "current-context": "sandbox",
    }
    return json.dumps(document, indent=2) + "\n"  # JSON is YAML


def find_beside_python(program: str) -> Path:
    """A program that came with the project's own dependencies."""
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else packages.find(program)
    if found is None:
        raise SandboxError(
            f"no {program} beside {sys.executable}: install the project's development dependencies there"
        )
    return Path(found).resolve()


def _snapshotter() -> str:
    """overlayfs does not work on another overlay, such as the disk of a container."""
    place = os.path.realpath(layout.STATE)
    best, kind = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, filesystem, *_ = line.split()
        prefix = mount.rstrip("/") + "/"
        if f"{place}/".startswith(prefix) and len(prefix) >= len(best):
            best, kind = prefix, filesystem
    return "native" if kind == "overlay" else "overlayfs"
