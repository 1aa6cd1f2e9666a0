"""The one-machine Kubernetes of the sandbox.

`up` is idempotent: it starts what is not running, on the data that is there, and waits
until the cluster answers. `down` leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import packages, toolchain, ui
from sandbox.cluster import choice, config, helpers, host, kind, layout, node, pki, ports, programs, readiness, s3keys
from sandbox.cluster.status import Component, logs, status
from sandbox.paths import STATE
from sandbox.toolchain.gobuild import is_built

_CHOICES = {
    "existing": "the one that is there",
    "kind": "one made by kind",
    "build": "a node of our own, of programs built here",
}

__all__ = ["Cluster", "Component", "ObjectStore", "check", "current", "down", "logs", "status", "up"]


@dataclass(frozen=True)
class ObjectStore:
    """The S3 server, as the host reaches it, and who may use it."""

    url: str
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Cluster:
    """How the host reaches the cluster."""

    kubeconfig: Path
    registry: str
    """Host and port of the image registry, the same on the host and on the node."""
    http: str
    https: str
    """Base URLs of the ingress."""
    ca: Path | None
    """Authority of the ingress certificate; None where the sandbox did not make it."""
    s3: ObjectStore | None = None
    """Where backups and the engine's state go; None where the sandbox did not start one."""
    prometheus: str | None = None
    alertmanager: str | None = None
    """Base URLs of the sandbox's own stack's; None where only `kubectl port-forward` reaches them."""
    owned: bool = True
    """Whether the sandbox started this cluster."""


def check() -> list[dict[str, str]]:
    """The packages that a cluster needs; raises if this machine cannot run one."""
    if not is_built_here():
        return []
    host.check()
    return [packages.CLUSTER]


def is_built_here() -> bool:
    """Whether Kubernetes is compiled here; elsewhere kubectl is on PATH already."""
    return choice.choose().kind == "build"


def build() -> None:
    """Build the programs of the sandbox's own cluster; `up` does it too, and finds them built."""
    if is_built_here():
        toolchain.build_cluster_binaries()
        helpers.build()


def list_unbuilt() -> list[str]:
    """The programs that `build` will compile."""
    if not is_built_here():
        return []
    return [part.name for part in helpers.parts() if not is_built(part)]


def up() -> Cluster:
    """The cluster, running and ready: the one KUBECONFIG names, one of kind's, or the sandbox's own node."""
    chosen = choice.choose()
    ui.note(f"cluster: {_CHOICES[chosen.kind]}, because {chosen.why}")
    given = host.find_kubeconfig()
    if chosen.kind == "existing" and given:
        return _use_existing(given)
    if chosen.kind == "kind":
        with _lock(), ui.step("start a cluster with kind"):
            try:
                return _start_kind(kind.up())
            except ui.SandboxError as error:
                raise ui.SandboxError(f"{error}\nSANDBOX=build needs neither kind nor Docker.") from error
    packages.ensure(*check())
    binaries = toolchain.build_cluster_binaries()
    built = helpers.build()
    with _lock():
        with ui.step("start the cluster"):
            began = time.monotonic()
            running = _ensure_node(binaries, built)
            readiness.wait(running, binaries / "kubectl", built)
        cluster = _start_node()
        ui.note(f"Kubernetes is ready ({time.monotonic() - began:.1f} s); KUBECONFIG={cluster.kubeconfig}")
    return cluster


def current() -> Cluster | None:
    """The sandbox's own cluster, if its node is running."""
    return _start_node() if node.find() and ports.read_recorded() else None


def s3_server() -> s3keys.Server:
    """The S3 server of the sandbox's own cluster."""
    running, chosen = node.find(), ports.read_recorded()
    if running is None or chosen is None:
        raise ui.SandboxError("the sandbox's S3 server is not running; start it with `make up`")
    return s3keys.Server(running, f"http://localhost:{chosen.s3}")


def down() -> None:
    """End the node and remove its data; raises if anything remains."""
    if not STATE.exists():
        return
    with _lock():
        running = node.find()
        if running is not None:
            with ui.step("stop the cluster"):
                running.end()
        node.clean()
        if kind.exists():
            with ui.step("delete the cluster of kind"):
                kind.down()
        host.assert_nothing_left()
        with ui.step("remove its data"):
            shutil.rmtree(STATE)


def _use_existing(kubeconfig: Path) -> Cluster:
    registry, url = host.check_kubeconfig(kubeconfig)
    return Cluster(kubeconfig=kubeconfig, registry=registry, http=url, https=url, ca=None, owned=False)


def _start_kind(chosen: ports.Ports) -> Cluster:
    return Cluster(
        kubeconfig=layout.KUBECONFIG,
        registry=f"localhost:{chosen.registry}",
        http=f"http://localhost:{chosen.http}",
        https=f"https://localhost:{chosen.https}",
        ca=None,
    )


def _ensure_node(binaries: Path, built: helpers.Helpers) -> node.Node:
    pki.ensure()
    running = node.find()
    chosen = ports.read_recorded() if running else None
    inputs = config.Inputs(binaries=binaries, helpers=built, ports=chosen or ports.choose())
    changed = config.write(inputs, programs.supervisor_config(programs.table(inputs)))
    if running and changed:
        ui.note("the node's configuration has changed: restarting it")
        running.end()
        running = None
    return running or node.start()


def _start_node() -> Cluster:
    chosen = ports.read_recorded()
    assert chosen is not None
    return Cluster(
        kubeconfig=layout.KUBECONFIG,
        registry=f"localhost:{chosen.registry}",
        http=f"http://localhost:{chosen.http}",
        https=f"https://localhost:{chosen.https}",
        ca=layout.CA,
        prometheus=f"http://localhost:{chosen.prometheus}",
        alertmanager=f"http://localhost:{chosen.alertmanager}",
        s3=ObjectStore(
            url=f"http://localhost:{chosen.s3}",
            access_key=(layout.PKI / "s3-access.key").read_text(),
            secret_key=(layout.PKI / "s3-secret.key").read_text(),
        ),
    )


@contextmanager
def _lock() -> Iterator[None]:
    """One `up` or `down` at a time."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ui.note("another `python -m sandbox` is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
