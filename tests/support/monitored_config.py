"""The committed stacks with monitoring."""

from __future__ import annotations

from typing import Any

from tests.support.program import RELEASE, stack_config

IMAGE = "registry.example.com/monitoring@sha256:" + "d" * 64
PLAIN: dict[str, Any] = {
    "image": IMAGE,
    "infrastructure": {"kubelet": False, "nodes": False, "kubeState": False},
    "slack": {"egress": [{"cidr": "203.0.113.0/24", "ports": [443]}]},
}
"""Required settings: the image, that the cluster has no exporters of its own, and egress to Slack."""
THEIRS = {"namespace": "monitoring", "podLabels": {"app.kubernetes.io/name": "prometheus"}}
OPERATED: dict[str, Any] = {
    "mode": "operator",
    "image": IMAGE,
    "operator": {"labels": {"release": "prometheus"}, "prometheus": THEIRS},
}
_QUOTA = {"cpu": "8", "memory": "16Gi", "limitsCpu": "56", "limitsMemory": "32Gi", "pods": 60, "storage": "200Gi"}


def watched(
    file: str = "Pulumi.sandbox.yaml", monitoring: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """A committed stack with monitoring, and a quota that suffices."""
    config = stack_config(file, release=RELEASE, monitoring=PLAIN if monitoring is None else monitoring, **changes)
    guards = config.get("runbook:guards", {})
    return {**config, "runbook:guards": {**guards, "quota": _QUOTA}}
