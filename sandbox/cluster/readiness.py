"""Waits until a started node answers, and applies what every cluster has."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox import ui
from sandbox.cluster import layout, ports
from sandbox.cluster.helpers import Helpers
from sandbox.cluster.node import Node, find
from sandbox.paths import LOGS
from sandbox.ui import SandboxError

_SECONDS = 90
_RETRY = 0.05


def wait(node: Node, kubectl: Path, built: Helpers) -> None:
    """Return when the node is Ready, names resolve and the ingress answers."""
    chosen = ports.read_recorded()
    assert chosen is not None
    context = ssl.create_default_context(cafile=str(layout.PKI / "cluster-ca.crt"))
    context.load_cert_chain(layout.PKI / "admin.crt", layout.PKI / "admin.key")
    with ThreadPoolExecutor() as pool:
        image = pool.submit(_import_pause_image, node, built)
        _until(f"https://127.0.0.1:{chosen.api}/readyz", context, {200}, "kube-apiserver")
        node.start_remaining()
        # Server-side apply: what is there already stays as it is, what differs is put right.
        _kubectl(kubectl, "apply", "--server-side", "--force-conflicts", f"--filename={layout.MANIFESTS}")
        image.result()
        # Without it the next wait fails at once where the kubelet has not registered its node yet.
        _kubectl(kubectl, "wait", "--for=create", f"node/{layout.NODE}", f"--timeout={_SECONDS}s")
        waits = [
            ("wait", "--for=condition=Ready", f"node/{layout.NODE}"),
            ("--namespace=kube-system", "rollout", "status", "deployment/coredns"),
            ("--namespace=traefik", "rollout", "status", "deployment/traefik"),
        ]
        list(pool.map(lambda arguments: _kubectl(kubectl, *arguments, f"--timeout={_SECONDS}s"), waits))
    # What the API server says may still be from before a restart: ask the services themselves.
    _retry(lambda: _resolve(node, "kubernetes.default.svc.cluster.local"), OSError, "kube-proxy")
    ingress = ssl.create_default_context(cafile=str(layout.CA))
    # 404: the ingress answers, and has no route for this name.
    _until(f"https://localhost:{chosen.https}/", ingress, {200, 404}, "forwarder")
    _until(f"http://localhost:{chosen.registry}/v2/", None, {200}, "registry")
    _until(f"http://localhost:{chosen.s3}/status", None, {200}, "s3")


def _kubectl(kubectl: Path, *arguments: str) -> str:
    return ui.run([kubectl, f"--kubeconfig={layout.KUBECONFIG}", *arguments])


def _resolve(node: Node, name: str) -> None:
    """Ask the cluster's DNS, by its service address, for a name that every cluster has."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with node.open_socket(socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.5)
        asking.connect((layout.DNS_IP, 53))
        asking.send(query)
        answer = asking.recv(512)
    code, answers = answer[3] & 0x0F, struct.unpack(">H", answer[6:8])[0]
    if code or not answers:
        raise OSError(f"DNS answered code {code} with {answers} records for {name}")


def _import_pause_image(node: Node, built: Helpers) -> None:
    """Put the one image that cannot come from a registry where kubelet's runtime finds it."""
    _retry(
        lambda: subprocess.run(
            node.command("test", "-S", "/run/containerd/containerd.sock"), check=True, capture_output=True
        ),
        subprocess.CalledProcessError,
        "containerd",
    )
    ctr = ("ctr", "--namespace=k8s.io", "images")
    if layout.PAUSE_IMAGE not in ui.run(node.command(*ctr, "list", "--quiet")).split():
        ui.run(node.command(*ctr, "import", built.pause_image))


def _until(url: str, context: ssl.SSLContext | None, answers: set[int], program: str) -> None:
    """Ask until one of the wanted answers comes."""

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 (our own URLs)
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        if status not in answers:
            raise OSError(f"{url} answered {status}")

    _retry(ask, OSError, program)


def _retry(action: Callable[[], object], errors: type[Exception], program: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            action()
            return
        except errors as error:
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{program} does not answer after {_SECONDS} s ({error}). Its log is {LOGS / program}.log"
                ) from error
            if find() is None:
                log = LOGS / "supervisor.log"
                raise SandboxError(f"the node ended while it was starting: see {log}") from error
        time.sleep(_RETRY)
