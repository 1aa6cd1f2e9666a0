"""A cluster of kind's, where Docker is there: images of Kubernetes are downloaded in a minute, and nothing is compiled.

It gets what the sandbox's own node has and a plain one lacks: the registry that the stack's images come from, and the
same ingress at the same addresses. There is no S3 server, so no backups, as in every cluster that is not our own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import yaml

from sandbox import ui
from sandbox.cluster import layout, ports

NAME = layout.CGROUP
"""One per state folder, as with the sandbox's own node."""

_REGISTRY = f"{NAME}-registry"
_REGISTRY_IMAGE = "registry:2"
_TRAEFIK = "traefik:v3.5"
_NODE_PORTS = {"web": 30080, "websecure": 30443}
_MARK = layout.STATE / "kind"


def missing() -> str:
    """Why there can be no cluster of kind's here; empty if there can."""
    for program in ("docker", "kind", "kubectl"):
        if shutil.which(program) is None:
            return f"no {program} on PATH"
    try:
        subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=True)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return f"Docker does not answer: {lines[-1] if lines else f'exit code {error.returncode}'}"
    except subprocess.TimeoutExpired:
        return "Docker does not answer within 20 s"
    return ""


def exists() -> bool:
    """Whether this sandbox is a cluster of kind's."""
    return _MARK.exists()


def up() -> ports.Ports:
    """The cluster, its registry and its ingress, made where they are not there yet."""
    layout.STATE.mkdir(parents=True, exist_ok=True)
    chosen = ports.read_recorded() if exists() else None
    chosen = chosen or ports.choose()
    _MARK.touch()
    if NAME not in ui.run(["kind", "get", "clusters"]).split():
        config = layout.STATE / "kind.yaml"
        config.write_text(yaml.safe_dump(_config(chosen)))
        ui.run(["kind", "create", "cluster", f"--name={NAME}", f"--config={config}", "--wait=120s",
                f"--kubeconfig={layout.KUBECONFIG}"])  # fmt: skip
    _start_registry(chosen)
    _apply_ingress()
    return chosen


def down() -> None:
    ui.run(["kind", "delete", "cluster", f"--name={NAME}"])
    ui.run(["docker", "rm", "--force", "--volumes", _REGISTRY])


def _config(chosen: ports.Ports) -> dict[str, object]:
    mappings = {_NODE_PORTS["web"]: chosen.http, _NODE_PORTS["websecure"]: chosen.https}
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"serviceSubnet": layout.SERVICE_CIDR},
        "nodes": [
            {
                "role": "control-plane",
                "extraPortMappings": [
                    {"containerPort": inside, "hostPort": outside, "listenAddress": "127.0.0.1"}
                    for inside, outside in mappings.items()
                ],
            }
        ],
        "containerdConfigPatches": [
            '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'
        ],
    }


def _start_registry(chosen: ports.Ports) -> None:
    """A registry beside the cluster, which its nodes reach by the address that the host knows it by."""
    if _REGISTRY not in ui.run(["docker", "ps", "--format={{.Names}}"]).split():
        ui.run(["docker", "run", "--detach", "--restart=always", f"--name={_REGISTRY}", "--network=kind",
                f"--publish=127.0.0.1:{chosen.registry}:5000", _REGISTRY_IMAGE])  # fmt: skip
    folder = f"/etc/containerd/certs.d/localhost:{chosen.registry}"
    for node in ui.run(["kind", "get", "nodes", f"--name={NAME}"]).split():
        ui.run(["docker", "exec", node, "mkdir", "--parents", folder])
        ui.run(
            ["docker", "exec", "--interactive", node, "cp", "/dev/stdin", f"{folder}/hosts.toml"],
            stdin=f'[host."http://{_REGISTRY}:5000"]\n',
        )


def _apply_ingress() -> None:
    """The ingress of the sandbox's own node, from its image and without a certificate of ours."""
    manifest = layout.STATE / "kind-ingress.yaml"
    manifest.write_text(yaml.safe_dump_all(_ingress_objects(), sort_keys=False))
    kubectl = ["kubectl", f"--kubeconfig={layout.KUBECONFIG}"]
    ui.run([*kubectl, "apply", "--server-side", "--force-conflicts", f"--filename={manifest}"])
    ui.run([*kubectl, "--namespace=traefik", "rollout", "status", "deployment/traefik", "--timeout=180s"])


def _ingress_objects() -> list[dict[str, object]]:
    template = (Path(__file__).parent / "manifests" / "ingress.yaml").read_text()
    return [_adapt(item) for item in yaml.safe_load_all(template) if item["kind"] not in ("Secret", "ConfigMap")]


def _adapt(item: dict) -> dict[str, object]:
    if item["kind"] == "Service" and item["spec"]["clusterIP"] != "None":
        item["spec"]["type"] = "NodePort"
        del item["spec"]["clusterIP"]
        for port in item["spec"]["ports"]:
            port["nodePort"] = _NODE_PORTS[port["name"]]
    elif item["kind"] == "Deployment":
        template = item["spec"]["template"]
        del template["metadata"]["annotations"]
        (container,) = template["spec"]["containers"]
        container |= {"image": _TRAEFIK, "imagePullPolicy": "IfNotPresent"}
        container["args"] = [word for word in container.pop("command")[1:] if "providers.file" not in word]
        container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["name"] == "tmp"]
        template["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    return item
