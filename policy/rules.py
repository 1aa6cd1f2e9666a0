"""What every pod has to comply with: pure functions over an object as the provider gets it, without Pulumi.

The same rules as the ValidatingAdmissionPolicies of components/admission.py, which a change by another tool meets too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

LOOKS_SECRET = r"SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE_KEY|API_KEY|(_|^)DSN$"  # noqa: S105 (a pattern)
"""Names whose values are secrets; as in settings/application.py."""
_NAMES = re.compile(LOOKS_SECRET, re.IGNORECASE)
_REFERENCE = re.compile(r"(_NAME|_FILE|_PATH|_DIR)$", re.IGNORECASE)
"""Names of places where a secret is."""
_PASSWORD_IN_URL = re.compile(r"^[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@", re.IGNORECASE)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_KINDS = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob")
_PREFIX = "kubernetes:"


def find_pod(kind: str, properties: Object) -> Object | None:
    """The spec of an object's pods; None for what has none. `kind`: a type such as `kubernetes:apps/v1:Deployment`."""
    name = kind.rsplit(":", 1)[-1]
    if not kind.startswith(_PREFIX) or name not in _KINDS:
        return None
    spec = _map(properties.get("spec"))
    if name == "Pod":
        return spec
    if name == "CronJob":
        spec = _map(_map(spec.get("jobTemplate")).get("spec"))
    return _map(_map(spec.get("template")).get("spec"))


def check_images(pod: Object) -> Iterator[str]:
    """A tag can move: only a digest is what was tested."""
    for container in list_containers(pod):
        image = container.get("image")
        if isinstance(image, str) and not _DIGEST.search(image):
            yield f"container {_name(container)}: image {image} is not by digest; write NAME@sha256:…"


def check_privileges(pod: Object) -> Iterator[str]:
    """Pod Security `restricted`."""
    shared = _map(pod.get("securityContext"))
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is true; remove it"
    for volume in _list(pod.get("volumes")):
        if "hostPath" in volume:
            yield f"volume {_name(volume)} is a hostPath; use a volume claim or an emptyDir"
    for container in list_containers(pod):
        own, where = _map(container.get("securityContext")), f"container {_name(container)}: securityContext."
        if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
            yield f"{where}runAsNonRoot is not true"
        if own.get("runAsUser", shared.get("runAsUser")) == 0:
            yield f"{where}runAsUser is 0, which is root"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{where}allowPrivilegeEscalation is not false"
        if own.get("privileged"):
            yield f"{where}privileged is true"
        capabilities = _map(own.get("capabilities"))
        if "ALL" not in (capabilities.get("drop") or ()):
            yield f"{where}capabilities.drop is not [ALL]"
        if added := [name for name in capabilities.get("add") or () if name != "NET_BIND_SERVICE"]:
            yield f"{where}capabilities.add has {', '.join(map(str, added))}"
        profile = _map(own.get("seccompProfile") or shared.get("seccompProfile")).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            yield f"{where}seccompProfile.type is not RuntimeDefault"


def check_secrets(pod: Object) -> Iterator[str]:
    """A value in a pod's manifest is read by everybody who may list pods, and stays in the history of the rollout."""
    for container in list_containers(pod):
        for variable in _list(container.get("env")):
            value, name = variable.get("value"), str(variable.get("name"))
            if isinstance(value, str) and shows_secret(name, value):
                yield (
                    f"container {_name(container)}: variable {name} has its value in the manifest; take it from a "
                    "Secret (valueFrom.secretKeyRef, or secrets:* in the stack file)"
                )


def check_config_map(kind: str, properties: Object) -> Iterator[str]:
    """The same of what pods read from a ConfigMap."""
    if kind.startswith(_PREFIX) and kind.rsplit(":", 1)[-1] == "ConfigMap":
        for name, value in _map(properties.get("data")).items():
            if isinstance(value, str) and shows_secret(name, value):
                yield f"key {name} of a ConfigMap has a secret's value; write it into secrets:* of the stack file"


def check_resources(pod: Object) -> Iterator[str]:
    """Without them one pod takes the node's memory from all others."""
    for container in list_containers(pod):
        resources = _map(container.get("resources"))
        for side in ("requests", "limits"):
            missing = [name for name in ("cpu", "memory") if name not in _map(resources.get(side))]
            if missing:
                yield f"container {_name(container)}: resources.{side} has no {' and no '.join(missing)}"


def shows_secret(name: str, value: str) -> bool:
    """Whether a name and its plain value look like a secret. Files and numbers do not."""
    if _PASSWORD_IN_URL.search(value):
        return True
    named = _NAMES.search(name) and not _REFERENCE.search(name) and not name.endswith((".json", ".yml", ".yaml"))
    return bool(named and value and not value.isdigit() and not value.startswith("/") and "\n" not in value)


def list_containers(pod: Object) -> list[Object]:
    return [item for key in ("initContainers", "containers", "ephemeralContainers") for item in _list(pod.get(key))]


OF_PODS: Mapping[str, tuple[str, Callable[[Object], Iterator[str]]]] = {
    "image-by-digest": ("Images are named by digest.", check_images),
    "restricted": ("Pods comply with Pod Security restricted.", check_privileges),
    "no-plaintext-secret": ("No variable of a container is a secret in plain text.", check_secrets),
    "requests-and-limits": ("Containers have requests and limits of CPU and memory.", check_resources),
}
"""Name → description and check of a pod's spec."""


def _map(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Object]:
    """Pulumi gives lists of a type of its own."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return [item for item in value if isinstance(item, Mapping)] if is_list else []


def _name(item: Object) -> str:
    return str(item.get("name") or "?")
