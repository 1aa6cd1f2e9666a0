"""What differs between a workload in the cluster and the stack's state: `kubectl edit`, `scale`, `rollout undo`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 (the engine's mark of a value that is not plain)
_QUANTITIES = ("requests", "limits", "sizeLimit")
"""The API server writes quantities its own way (`1000m` becomes `1`)."""


@dataclass(frozen=True)
class Drift:
    """A field of an object that something else changed."""

    object: str
    """Kind and name."""
    field: str
    """Path in the object (`spec.replicas`)."""
    stack: Any
    """The value in the stack's state."""
    cluster: Any
    """The value in the cluster; None where the field is missing."""

    def __str__(self) -> str:
        return f"{self.object}: {self.field} is {self.cluster!r} in the cluster and {self.stack!r} in the stack"


def find_drift(state: Mapping[str, Any], live: Sequence[Mapping[str, Any]]) -> list[Drift]:
    """Every field that the program sets in the spec of a Deployment or StatefulSet and that has another value now.

    `state`: the deployment as the engine stores it. `live`: these objects as the API server returns them.
    """
    found = {(item["kind"], item["metadata"]["name"]): item for item in live}
    scaled = _find_scaled(state)
    drifts: list[Drift] = []
    for resource in state.get("resources") or ():
        kind = resource["type"].rsplit(":", 1)[-1]
        inputs = resource.get("inputs") or {}
        if kind not in ("Deployment", "StatefulSet") or resource.get("delete"):
            continue
        name = inputs["metadata"]["name"]
        now = found.get((kind, name))
        if now is None:
            drifts.append(Drift(f"{kind} {name}", "metadata.name", name, None))
            continue
        drifts += (
            Drift(f"{kind} {name}", field, wanted, actual)
            for field, wanted, actual in _differences(inputs["spec"], now["spec"], "spec")
            if not (field == "spec.replicas" and (kind, name) in scaled)
        )
    return drifts


def _find_scaled(state: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Kind and name of what the stack's autoscalers scale: nothing else decides its number of pods."""
    specs = [
        resource["inputs"]["spec"]
        for resource in state.get("resources") or ()
        if resource["type"].endswith(":HorizontalPodAutoscaler") and not resource.get("delete")
    ]
    return {(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) for spec in specs}


def _differences(wanted: Any, actual: Any, at: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(wanted, Mapping):
        if _SECRET in wanted:
            return
        there = actual if isinstance(actual, Mapping) else {}
        for key, value in wanted.items():
            if key not in _QUANTITIES:
                yield from _differences(value, there.get(key), f"{at}.{key}")
    elif isinstance(wanted, list):
        there = actual if isinstance(actual, list) else []
        for index, value in enumerate(wanted):
            name = value.get("name") if isinstance(value, Mapping) else None
            beside = there[index] if index < len(there) else None
            if isinstance(name, str):
                beside = next((item for item in there if isinstance(item, Mapping) and item.get("name") == name), None)
            yield from _differences(value, beside, f"{at}[{name if isinstance(name, str) else index}]")
    elif wanted not in (None, "", False) and wanted != actual:
        yield at, wanted, actual
