"""The sandbox's Kubernetes: features that the other tests rely on."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import cluster
from sandbox.cluster import layout
from sandbox.paths import ROOT, STATE
from tests.support.monitored_stack import eventually

pytestmark = pytest.mark.sandbox

SERVER = "require('http').createServer((_, answer) => answer.end('here')).listen(8080)"
IDLE = "setInterval(() => {}, 1e6)"
CONNECT = (
    "const s = require('net').connect({host: process.argv[1], port: +process.argv[2], timeout: 2000});"
    "s.on('connect', () => process.exit(0));"
    "s.on('timeout', () => process.exit(7)); s.on('error', () => process.exit(8))"
)
LOCKED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Namespace:
    """A namespace of one test, and pods that run the shop's image for its Node."""

    name: str
    image: str

    def kubectl(self, *arguments: str, document: Any = None, ok: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", "--namespace", self.name, *arguments],
            input=json.dumps(document) if document else "",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout if done.returncode == 0 else done.stderr

    def apply(self, *documents: dict[str, Any], ok: bool = True) -> str:
        return self.kubectl(
            "apply",
            "--filename=-",
            document={"apiVersion": "v1", "kind": "List", "items": list(documents)},
            ok=ok,
        )

    def pod(self, name: str, script: str, **extra: Any) -> dict[str, Any]:
        container = {
            "name": "main",
            "image": self.image,
            "command": ["node", "-e", script],
            "securityContext": LOCKED,
            **extra.pop("container", {}),
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **extra},
        }

    def wait_ready(self, *pods: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{pod}" for pod in pods))

    def answers(self, pod: str) -> bool:
        """Whether a command can be run in the pod: a kubelet that has just started does not know its pods yet."""
        command = ["kubectl", "--namespace", self.name, "exec", pod, "--", "node", "--version"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    def reaches(self, pod: str, host: str, port: int) -> bool:
        done = subprocess.run(
            ["kubectl", "--namespace", self.name, "exec", pod, "--", "node", "-e", CONNECT, host, str(port)],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode in (0, 7, 8), done.stderr
        return done.returncode == 0


@pytest.fixture
def namespace(images: dict[str, str]) -> Iterator[Namespace]:
    made = Namespace(f"ground-{uuid.uuid4().hex[:8]}", images["shop:v1"])
    made.kubectl("create", "namespace", made.name)
    try:
        yield made
    finally:
        made.kubectl("delete", "namespace", made.name, "--wait=false")


def service(name: str, port: int = 80, target: int = 8080) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]},
    }


def policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, **spec},
    }


def test_every_component_is_reported_with_pid_and_log() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "sandbox", "status", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    parts = {part["name"]: part for part in json.loads(printed.stdout)}
    assert {"etcd", "kube-apiserver", "containerd", "kubelet", "registry", "forwarder"} <= parts.keys()
    for part in parts.values():
        assert part["state"] == "RUNNING", part
        assert Path(f"/proc/{part['pid']}").exists()
        assert Path(part["log"]).exists()
    assert printed.returncode == 0


def test_services_resolve_by_dns_and_external_names_do_not(namespace: Namespace) -> None:
    namespace.apply(service("server"), namespace.pod("server", SERVER), namespace.pod("client", IDLE))
    namespace.wait_ready("server", "client")
    eventually(lambda: namespace.reaches("client", "server", 80))
    assert namespace.reaches("client", f"server.{namespace.name}.svc.cluster.local", 80)
    assert namespace.reaches("client", "kubernetes.default", 443)
    began = time.monotonic()
    assert not namespace.reaches("client", "example.com", 443)
    assert time.monotonic() - began < 5, "a name that does not exist must be refused, not waited for"


def test_network_policies_are_enforced(namespace: Namespace) -> None:
    probe = {"readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}
    namespace.apply(
        service("server"),
        namespace.pod("server", SERVER, container=probe),
        namespace.pod("friend", IDLE),
        namespace.pod("stranger", IDLE),
    )
    namespace.wait_ready("server", "friend", "stranger")
    for pod in ("friend", "stranger"):
        eventually(lambda pod=pod: namespace.reaches(pod, "server", 80))

    namespace.apply(policy("default-deny", {"policyTypes": ["Ingress", "Egress"]}))
    eventually(lambda: not namespace.reaches("friend", "server", 80))

    to_dns = {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }  # fmt: skip
    to_server = {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}
    from_friend = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8080}]}
    namespace.apply(
        policy("outward", {"policyTypes": ["Egress"], "egress": [to_dns, to_server]}),
        policy(
            "inward",
            {
                "podSelector": {"matchLabels": {"app": "server"}},
                "policyTypes": ["Ingress"],
                "ingress": [from_friend],
            },
        ),
    )
    eventually(lambda: namespace.reaches("friend", "server", 80))
    assert not namespace.reaches("stranger", "server", 80)
    assert not namespace.reaches("friend", "kubernetes.default", 443), "egress that no policy opens"
    # Kubelet's probes come from the node, which policies never block.
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    assert namespace.kubectl("get", "pod", "server", f"--output={ready}") == "True"


def test_ingress_publishes_an_address_and_needs_an_opening(namespace: Namespace) -> None:
    host = f"{namespace.name}.localhost"
    backend = {"service": {"name": "server", "port": {"number": 80}}}
    route = {"path": "/", "pathType": "Prefix", "backend": backend}
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "server"},
        "spec": {"rules": [{"host": host, "http": {"paths": [route]}}]},
    }
    namespace.apply(service("server"), namespace.pod("server", SERVER), ingress)
    namespace.apply(namespace.pod("client", IDLE), policy("default-deny", {"policyTypes": ["Ingress"]}))
    namespace.wait_ready("server", "client")
    address = "jsonpath={.status.loadBalancer.ingress[0].hostname}"
    eventually(lambda: namespace.kubectl("get", "ingress", "server", f"--output={address}") == "localhost")
    # Shut before the first request: a connection that is open already stays open.
    eventually(lambda: not namespace.reaches("client", "server", 80))
    assert ask(host)[0] != 200

    controller = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "traefik"}}}
    namespace.apply(policy("opening", {"policyTypes": ["Ingress"], "ingress": [{"from": [controller]}]}))
    eventually(lambda: ask(host) == (200, b"here"))
    assert not namespace.reaches("client", "server", 80)


def ask(host: str) -> tuple[int, bytes]:
    """One request through the ingress, trusting the authority that the sandbox made and nothing else."""
    running = cluster.current()
    assert running is not None
    port = int(running.https.rsplit(":", 1)[1])
    trust = ssl.create_default_context(cafile=str(running.ca))
    connection = http.client.HTTPSConnection("localhost", port, timeout=3, context=trust)
    try:
        connection.request("GET", "/", headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except TimeoutError:
        return 0, b""
    finally:
        connection.close()


def test_prometheus_and_alertmanager_of_the_stack_answer_on_the_host() -> None:
    running = cluster.current()
    assert running is not None
    for url in (running.prometheus, running.alertmanager):
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:  # noqa: S310 (our own URLs)
            assert answer.status == 200


def test_a_restricted_namespace_refuses_a_privileged_pod(namespace: Namespace) -> None:
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    privileged = namespace.pod("bad", IDLE, container={"securityContext": {"privileged": True}})
    assert "violates PodSecurity" in namespace.apply(privileged, ok=False)
    namespace.apply(namespace.pod("good", IDLE))


def test_a_claim_gets_a_volume_that_goes_with_it(namespace: Namespace) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    writer = namespace.pod(
        "writer",
        f"require('fs').writeFileSync('/data/kept', 'x'); {IDLE}",
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        securityContext={"fsGroup": 999},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )
    namespace.apply(claim, writer)
    namespace.wait_ready("writer")
    volume = namespace.kubectl("get", "pvc", "data", "--output=jsonpath={.spec.volumeName}")
    (folder,) = (layout.NODE_DATA / "lib" / "volumes").glob(f"{volume}_*")
    eventually((folder / "kept").exists)
    assert (folder / "kept").stat().st_gid == 999, "kubelet gives the volume to the pod's fsGroup"
    namespace.kubectl("delete", "pod/writer", "pvc/data", "--wait=false")
    eventually(lambda: not folder.exists(), 60)


def test_secrets_are_encrypted_at_rest(namespace: Namespace) -> None:
    canary = f"canary-{uuid.uuid4().hex}"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "canary"},
        "stringData": {"value": canary},
    }
    namespace.apply(secret)
    data = layout.NODE_DATA / "lib" / "etcd"
    stored = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert f"/registry/secrets/{namespace.name}/canary".encode() in stored
    assert canary.encode() not in stored


@pytest.mark.parametrize("name", ["kube-apiserver", "containerd", "kubelet", "kube-proxy", "forwarder"])
def test_a_killed_component_is_restarted_and_pods_keep_running(name: str, namespace: Namespace) -> None:
    namespace.apply(service("server"), namespace.pod("server", SERVER), namespace.pod("client", IDLE))
    namespace.wait_ready("server", "client")
    containers = "jsonpath={.items[*].status.containerStatuses[*].containerID}"
    before = component(name)
    running = namespace.kubectl("get", "pods", f"--output={containers}")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    after = eventually(lambda: (now := component(name)).state == "RUNNING" and now.pid != before.pid and now, 60)
    assert after.restarts == before.restarts + 1
    eventually(lambda: subprocess.run(["kubectl", "get", "--raw=/readyz"], capture_output=True).returncode == 0)
    eventually(lambda: namespace.answers("client"), 60)
    eventually(lambda: namespace.reaches("client", "server", 80), 60)
    assert namespace.kubectl("get", "pods", f"--output={containers}") == running


def component(name: str) -> cluster.Component:
    return next(part for part in cluster.status() if part.name == name)


def test_down_leaves_nothing(tmp_path: Path) -> None:
    """On a second sandbox beside the shared one: other folder, other ports, same machine."""
    state = tmp_path / "state"
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    environment["RUNBOOK_SANDBOX_STATE"] = str(state)

    def sandbox(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sandbox", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)

    before = traces(state)
    up = sandbox("up", "--cluster-only")
    try:
        assert up.returncode == 0, up.stderr
        ports = json.loads((state / "ports.json").read_text())
        assert not set(ports.values()) & set(json.loads((STATE / "ports.json").read_text()).values())
        assert traces(state) != before
        network = str(Path(f"/proc/{(state / 'node.pid').read_text().strip()}/ns/net").readlink())
        assert processes_in(network)
        # What a killed session leaves: no first process, but its data. `up` goes on with it.
        os.kill(int((state / "node.pid").read_text()), signal.SIGKILL)
        eventually(lambda: sandbox("status").returncode == 3)
        eventually(lambda: not processes_in(network))
        again = sandbox("up", "--cluster-only")
        assert again.returncode == 0, again.stderr
        assert json.loads((state / "ports.json").read_text()) == ports
    finally:
        down = sandbox("down")
    assert down.returncode == 0, down.stderr
    assert not state.exists()
    eventually(lambda: traces(state) == before, what=lambda: {"before": before, "now": traces(state)})


def processes_in(network: str) -> list[str]:
    """Processes that are in this network namespace."""
    found: list[str] = []
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if str(link.readlink()) == network:
                found.append(link.parts[2])
        except OSError:  # ended meanwhile
            continue
    return found


def traces(state: Path) -> dict[str, Any]:
    """What a node with its data there could leave on the host: mounts, interfaces, rules, cgroups, changed settings."""

    def printed(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    settings = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
    return {
        # Not all mounts: image builds and other tests make and remove some of their own meanwhile.
        "mounts": sorted(mount for mount in mounts if mount.startswith(("/run", "/var", "/proc", str(state)))),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "rules": [line for line in printed("iptables-save") if not line.startswith("#")],
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("**/runbook-sandbox-*")),
        "settings": [Path("/proc/sys", name).read_text() for name in settings],
    }
