"""A preview that finds nothing to change, and how its time grows with ten times the resources."""

from __future__ import annotations

from typing import Any

from benchmarks.stack import bench, image
from benchmarks.timing import in_turn

SERVICES = (1, 10)


def measure(runs: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with bench("previews") as stack:
        for services in SERVICES:
            stack.set(namespace="bench-preview", image=image(), services=services, replicas=1, variable="same")
            stack.up()
            resources = len(stack.manifests())
            taken = in_turn({f"{resources} resources": lambda _turn: stack.preview()}, runs)
            found[str(resources)] = next(iter(taken.values())).to_json()
    medians = [entry["median_seconds"] for entry in found.values()]
    return {
        "noop_preview": {
            "what": "pulumi preview without a change, by number of Kubernetes resources",
            "seconds": found,
            "ratios": {"ten times the services/one": round(medians[1] / medians[0], 2)},
        }
    }
