"""A cluster's Prometheus Operator: its own manifests from its Go module, with images of programs built here."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandbox import toolchain
from sandbox.images import LOG, build_base, monitoring, program

NAMESPACE = "operator"
CHOSEN = {"release": "prometheus"}
"""Labels by which its servers choose what they read."""
SETTINGS: dict[str, Any] = {
    "mode": "operator",
    "operator": {
        "labels": CHOSEN,
        "prometheus": {"namespace": NAMESPACE, "podLabels": {"app.kubernetes.io/name": "prometheus"}},
        "alertmanager": {
            "url": f"http://alertmanager-operated.{NAMESPACE}.svc:9093",
            "pods": {"namespace": NAMESPACE, "podLabels": {"app.kubernetes.io/name": "alertmanager"}},
        },
    },
    "infrastructure": {"nodes": False, "kubeState": False, "kubelet": False},
}
"""`runbook:monitoring` of a stack on such a cluster."""
_PART, _MODULE = "prometheus-operator", "github.com/prometheus-operator/prometheus-operator"
_PROMETHEUS = "prometheus"
_ENTRY_POINTS = {
    "operator": f"{program.PROGRAMS}/operator",
    "admission-webhook": f"{program.PROGRAMS}/admission-webhook",
    "prometheus-config-reloader": f"{program.PROGRAMS}/prometheus-config-reloader",
    "operated-prometheus": f"{program.PROGRAMS}/prometheus",
    "operated-alertmanager": "/usr/bin/prometheus-alertmanager",
}
_WEBHOOK = "admission-webhook"
_GROUP = "monitoring.coreos.com/v1"
_SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Servers:
    """What the operator runs; asked through the API server."""

    def targets(self) -> list[dict[str, Any]]:
        return self._prometheus("targets?state=active")["activeTargets"]

    def rules(self) -> list[dict[str, Any]]:
        """Groups of rules that Prometheus evaluates."""
        return self._prometheus("rules")["groups"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        return self._prometheus(f"query?query={quote(expr, safe='')}")["result"]

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager knows."""
        return json.loads(_raw("alertmanager-operated:9093/proxy/api/v2/alerts"))

    def _prometheus(self, path: str) -> Any:
        return json.loads(_raw(f"prometheus-operated:9090/proxy/api/v1/{path}"))["data"]


def build_images() -> Path:
    """OCI layout of the operator and of what it starts."""
    programs = [toolchain.build_peer(part) for part in (_PART, _PROMETHEUS)]
    return program.layout(programs, monitoring.layout(build_base(), LOG), _ENTRY_POINTS)


@contextmanager
def run_operator(registry: str) -> Iterator[Servers]:
    """The operator, its admission webhook, and a Prometheus and an Alertmanager that it starts."""
    folder = toolchain.find_peer_file(_PART, _MODULE, ".")
    images = program.push_all(registry, build_images())
    definitions = f"--filename={folder / 'example' / 'prometheus-operator-crd'}"
    _remove(definitions)
    try:
        kubectl("apply", "--server-side", "--force-conflicts", definitions)
        kubectl("wait", "--for=condition=Established", "--timeout=60s", definitions)
        _apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        _apply(_controller(folder, images["prometheus-config-reloader"], images["operator"]))
        _apply(_admission(folder, images[_WEBHOOK]))
        rights = [one for file in folder.glob("example/rbac/prometheus/prometheus-*.yaml") for one in _read(file)]
        _apply([_move_namespace(one) for one in rights if one["kind"] != "Prometheus"])
        for name in ("prometheus-operator", _WEBHOOK):
            kubectl("rollout", "status", f"deployment/{name}", "--namespace", NAMESPACE, "--timeout=120s")
        _apply(_servers(images))
        for kind, name in (("prometheus", "k8s"), ("alertmanager", "main")):
            words = ["--for=condition=Available", "--timeout=120s"]
            kubectl("wait", f"{kind}.monitoring.coreos.com/{name}", "--namespace", NAMESPACE, *words)
        yield Servers()
    finally:
        _remove(definitions)


def _controller(folder: Path, reloader: str, image: str) -> list[Manifest]:
    """As its bundle has it, in a namespace of its own and with our images."""
    found = [_move_namespace(one) for one in _read(folder / "bundle.yaml")]
    (deployment,) = [one for one in found if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    container["args"] = [f"--prometheus-config-reloader={reloader}"]
    container["resources"] = _SMALL
    return found


def _admission(folder: Path, image: str) -> list[Manifest]:
    """Validates rules at admission. One replica: there is one node."""
    host = f"{_WEBHOOK}.{NAMESPACE}.svc"
    certificate, key = _issue_certificate(host)
    labels = {"app": _WEBHOOK}
    container = {
        "name": _WEBHOOK,
        "image": image,
        "args": ["--web.cert-file=/tls/tls.crt", "--web.key-file=/tls/tls.key"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8443, "scheme": "HTTPS"}, "periodSeconds": 1},
        # The API server waits ten seconds for it, and what requests nothing gets next to nothing on a busy node.
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": _WEBHOOK}}]}
    where = {"name": _WEBHOOK, "namespace": NAMESPACE}
    call = {
        "name": "prometheusrulevalidate.monitoring.coreos.com",
        "clientConfig": {
            "service": {**where, "path": "/admission-prometheusrules/validate", "port": 8443},
            "caBundle": base64.b64encode(certificate).decode(),
        },
        "rules": [
            {
                "apiGroups": ["monitoring.coreos.com"],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["prometheusrules"],
            }
        ],
        "failurePolicy": "Fail",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": where,
            "stringData": {"tls.crt": certificate.decode(), "tls.key": key.decode()},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": where,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": where,
            "spec": {"selector": labels, "ports": [{"port": 8443}]},
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": _WEBHOOK},
            "webhooks": [call],
        },
    ]


def _servers(images: dict[str, str]) -> list[Manifest]:
    """They choose by label, in every namespace."""
    kinds = ("serviceMonitor", "podMonitor", "probe", "rule")
    chosen: Manifest = {f"{kind}Selector": {"matchLabels": CHOSEN} for kind in kinds}
    prometheus: Manifest = {
        **chosen,
        **{f"{kind}NamespaceSelector": {} for kind in kinds},
        "image": images["operated-prometheus"],
        "version": _prometheus_version(),
        "serviceAccountName": "prometheus",
        "scrapeInterval": "5s",
        "evaluationInterval": "5s",
        "alerting": {"alertmanagers": [{"namespace": NAMESPACE, "name": "alertmanager-operated", "port": "web"}]},
        "resources": _SMALL,
    }
    alertmanager = {
        "image": images["operated-alertmanager"],
        "version": _alertmanager_version(),
        "replicas": 1,
        "alertmanagerConfigSelector": {"matchLabels": CHOSEN},
        "alertmanagerConfigNamespaceSelector": {},
        "resources": _SMALL,
    }
    return [
        {"apiVersion": _GROUP, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
        for kind, name, spec in (("Prometheus", "k8s", prometheus), ("Alertmanager", "main", alertmanager))
    ]


def _prometheus_version() -> str:
    """The operator writes configurations and flags by version."""
    text = toolchain.find_peer_file(_PROMETHEUS, "github.com/prometheus/prometheus", "VERSION").read_text()
    return f"v{text.strip()}"


def _alertmanager_version() -> str:
    """The distribution's: that of its tool here is that of the server in the image."""
    words = subprocess.run(["amtool", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+\.\d+\.\d+)", words.stdout + words.stderr)
    assert found, words
    return f"v{found[1]}"


def _issue_certificate(host: str) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*plain)


def _move_namespace(manifest: Manifest) -> Manifest:
    """In our namespace instead of the default one."""
    if "namespace" in manifest["metadata"] or manifest["kind"] == "ServiceAccount":
        manifest["metadata"]["namespace"] = NAMESPACE
    for subject in manifest.get("subjects", ()):
        subject["namespace"] = NAMESPACE
    return manifest


def _read(file: Path) -> list[Manifest]:
    """Without definitions of kinds: those have a value that Python's YAML does not read."""
    texts = [text for text in re.split(r"^---\n", file.read_text(), flags=re.MULTILINE) if text.strip()]
    return [yaml.safe_load(text) for text in texts if "\nkind: CustomResourceDefinition\n" not in text]


def _apply(manifests: list[Manifest]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(listed))


def _remove(definitions: str) -> None:
    """Also what an interrupted run left; objects of these kinds go with their definitions."""
    kubectl("delete", "validatingwebhookconfiguration", _WEBHOOK, "--ignore-not-found")
    kubectl("delete", definitions, "--ignore-not-found", "--timeout=120s")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    for kind in ("clusterrole", "clusterrolebinding"):
        kubectl("delete", kind, "prometheus-operator", "prometheus", "--ignore-not-found")


def kubectl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _raw(path: str) -> str:
    return kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/services/{path}")
