"""Environment for other controllers that roll a bad release back: a namespace with their programs and a
Prometheus for them.

They release copies of the shop's pods in the namespace of the measured stack: same image, database, variables, limits.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.timing import run
from components.base.names import SERVICE
from sandbox import toolchain
from sandbox.images import build_base, program
from sandbox.paths import ROOT
from sandbox.traffic import Traffic
from tests.support.cluster_stack import Stack

NAMESPACE = "peers"
PROMETHEUS = f"http://prometheus.{NAMESPACE}.svc:9090"
SCRAPE_SECONDS = 5
"""As often as the stack's own Prometheus."""
PORT = 3000
COPIES = ("flagger-shop", "argo-shop")
"""Names of the copies of the shop, and of the jobs by which Prometheus reads them."""
_BAD_VERSION = json.loads((ROOT / "sandbox/shop/releases/v8-late-errors.json").read_text())["version"]
_SETTLE_SECONDS = 20
"""Traffic after a controller has decided: what fails later than this is missed."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a bad release did to customers, from the first failed request on."""

    decided: float
    """Seconds until the controller decided to roll back."""
    served: float
    """Seconds until the last failed request."""
    failed: int
    """Failed requests …"""
    asked: int
    """… of all that were sent from the first failed one to the last."""


def outcome(traffic: Traffic, decided_at: float) -> Outcome:
    """`decided_at`: seconds since 1970."""
    offset = time.time() - time.monotonic()
    failed = [answer.at for answer in traffic.failures]
    if not failed:
        raise SystemExit("no request failed: this release did not turn bad while it was watched")
    first, last = min(failed), max(failed)
    asked = sum(first <= answer.at <= last for answer in traffic.answers)
    return Outcome(decided_at - offset - first, last - first, len(failed), asked)


def good_share(copy: str, window: str, function: str = "rate") -> str:
    """PromQL: the part of the bad release's answers in `window` that are no errors of the server."""
    new = f'job="{copy}",release="{_BAD_VERSION}"'
    good, asked = (
        f"sum({function}(http_request_duration_seconds_count{{{labels}}}[{window}]))"
        for labels in (f'{new},status!~"5.*"', new)
    )
    return f"{good} / {asked}"


@dataclass(frozen=True)
class Ground:
    """Where the peers' programs run."""

    stack: Stack
    monitoring_image: str
    registry: str

    def start(self, name: str, image: str, command: Sequence[str], ready: tuple[str, int], **pod: Any) -> None:
        """One program in a pod of its own, with the rights of an administrator; returns when it is ready."""
        path, port = ready
        container: Manifest = {
            "name": name,
            "image": image,
            "command": list(command),
            "readinessProbe": {"httpGet": {"path": path, "port": port}, "periodSeconds": 1, "failureThreshold": 60},
            **pod.pop("container", {}),
        }
        labels = {"app": name}
        template = {
            "metadata": {"labels": labels},
            "spec": {"serviceAccountName": NAMESPACE, "containers": [container], **pod},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place(name), "spec": spec},
            service(place(name), labels, port),
        )
        run(["kubectl", "rollout", "status", f"deployment/{name}", "--namespace", NAMESPACE, "--timeout=180s"])

    def program(self, part: str, file: str) -> str:
        """Image of one of a peer's programs, which is built now if it never was."""
        path = f"{program.PROGRAMS}/{file}"
        made = program.layout([toolchain.build_peer(part)], build_base(), {part: path})
        return program.push_all(self.registry, made)[part]

    def shop(self, name: str, image: str) -> tuple[Manifest, Manifest]:
        """Labels and pod template of a copy of the stack's shop."""
        found = json.loads(self.stack.kubectl("get", "deployment", "backend", "--output", "json"))
        pod = found["spec"]["template"]["spec"]
        # Network policies choose by the part; how copies are spread over nodes is of no matter on one node.
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": SERVICE}
        kept = {key: value for key, value in pod.items() if key not in ("topologySpreadConstraints", "affinity")}
        container = pod["containers"][0]
        # Flagger's client is older than the hook that sleeps by itself, and would leave an empty one.
        seconds = str(container["lifecycle"]["preStop"]["sleep"]["seconds"])
        lifecycle = {"preStop": {"exec": {"command": ["sleep", seconds]}}}
        kept["containers"] = [{**container, "image": image, "lifecycle": lifecycle}]
        return labels, {"metadata": {"labels": labels}, "spec": kept}

    def pods(self, name: str) -> Manifest:
        """A Service whose name has every address of a copy's pods, of those that are not ready too."""
        found = service(place(f"{name}-pods", self.stack.namespace), {"app.kubernetes.io/name": name}, PORT)
        found["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
        return found

    def url(self, name: str) -> str:
        """Where customers find a copy of the shop."""
        return self.stack.url.replace(f"//{self.stack.name}.", f"//{name}.")


@contextmanager
def ground(stack: Stack, monitoring_image: str, registry: str) -> Iterator[Ground]:
    made = Ground(stack, monitoring_image, registry)
    _remove()
    try:
        account = {"kind": "ServiceAccount", "name": NAMESPACE, "namespace": NAMESPACE}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place(NAMESPACE)},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": NAMESPACE},
                "roleRef": role,
                "subjects": [account],
            },
            _ingress_rules(stack.namespace),
        )
        _start_prometheus(made)
        yield made
    finally:
        _remove()


def _ingress_rules(namespace: str) -> Manifest:
    """The peers' gateway and their Prometheus reach the shop's pods."""
    peers = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}}
    spec = {
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": SERVICE}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [peers]}],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAMESPACE, "namespace": namespace},
        "spec": spec,
    }


def _start_prometheus(made: Ground) -> None:
    """It reads every pod of each copy, found by DNS, as the stack's own Prometheus does."""
    pods = [made.pods(name) for name in COPIES]
    apply(*pods)
    jobs = [
        {
            "job_name": name,
            "dns_sd_configs": [
                {
                    "names": [f"{one['metadata']['name']}.{made.stack.namespace}.svc"],
                    "type": "A",
                    "port": PORT,
                    "refresh_interval": f"{SCRAPE_SECONDS}s",
                }
            ],
        }
        for name, one in zip(COPIES, pods, strict=True)
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "scrape_timeout": f"{SCRAPE_SECONDS}s"},
        "scrape_configs": jobs,
    }
    file = {"prometheus.yaml": yaml.safe_dump(config)}
    apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": place("prometheus"), "data": file})
    made.start(
        "prometheus",
        made.monitoring_image,
        ["prometheus", "--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/tmp/prometheus"],
        ("/-/ready", 9090),
        container={"volumeMounts": [{"name": "config", "mountPath": "/etc/prometheus"}]},
        volumes=[{"name": "config", "configMap": {"name": "prometheus"}}],
    )


def place(name: str, namespace: str = NAMESPACE) -> Manifest:
    return {"name": name, "namespace": namespace}


def service(where: Manifest, pods: Mapping[str, str], port: int) -> Manifest:
    spec = {"selector": dict(pods), "ports": [{"name": "http", "port": port, "targetPort": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": spec}


def ingress(where: Manifest, url: str, to: str, port: int) -> Manifest:
    """Route this URL's host to a Service, by the sandbox's ingress controller."""
    backend = {"service": {"name": to, "port": {"number": port}}}
    rule = {
        "host": url.partition("//")[2].partition(":")[0],
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    spec = {"ingressClassName": "traefik", "rules": [rule]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": where, "spec": spec}


def definitions(folder: Path) -> list[Manifest]:
    """The custom resource definitions in a folder of a peer's module, or in one file of it."""
    files = sorted(folder.glob("*.yaml")) if folder.is_dir() else [folder]
    found = [one for file in files for one in yaml.safe_load_all(file.read_text())]
    return [one for one in found if one and one.get("kind") == "CustomResourceDefinition"]


@contextmanager
def defined(manifests: Sequence[Manifest]) -> Iterator[None]:
    """Apply these custom resource definitions until the block ends."""
    apply(*manifests)
    names = [f"crd/{manifest['metadata']['name']}" for manifest in manifests]
    try:
        run(["kubectl", "wait", "--for=condition=Established", "--timeout=60s", *names])
        yield
    finally:
        run(["kubectl", "delete", "--ignore-not-found", "--timeout=120s", *names])


def apply(*manifests: Manifest) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "--filename=-"]
    done = subprocess.run(command, input=json.dumps(listed), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kubectl apply failed:\n{done.stderr}")


def settle() -> None:
    """Traffic continues: the effect of a decision on customers is measured after it."""
    time.sleep(_SETTLE_SECONDS)


def _remove() -> None:
    run(["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=150s"])
    run(["kubectl", "delete", "clusterrolebinding", NAMESPACE, "--ignore-not-found"])
