"""What `kubectl` changed outside the stack is shown, and what the API server fills in is not."""

from __future__ import annotations

import copy
from typing import Any

from ops.decisions.drift import find_drift

SPEC = {
    "replicas": 2,
    "selector": {"matchLabels": {"app": "backend"}},
    "template": {
        "spec": {
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": "backend",
                    "image": "registry.example.com/shop@sha256:2",
                    "envFrom": [{"configMapRef": {"name": "backend-config-2"}}, {"secretRef": {"name": "app-b"}}],
                    "resources": {"limits": {"cpu": "1000m"}},
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
    },
}


def state(spec: Any = None, kind: str = "Deployment", **more: Any) -> dict[str, Any]:
    inputs = {"metadata": {"name": "backend"}, "spec": spec or SPEC}
    return {
        "resources": [{"type": "pulumi:pulumi:Stack"}, {"type": f"kubernetes:apps/v1:{kind}", "inputs": inputs, **more}]
    }


def live(kind: str = "Deployment") -> dict[str, Any]:
    """As the API server returns it: with defaults, and quantities written its way."""
    spec = copy.deepcopy(SPEC)
    spec["progressDeadlineSeconds"] = 600
    container = spec["template"]["spec"]["containers"][0]
    container |= {"imagePullPolicy": "Always", "resources": {"limits": {"cpu": "1"}}}
    del spec["template"]["spec"]["enableServiceLinks"]
    return {"kind": kind, "metadata": {"name": "backend"}, "spec": spec}


def test_an_unchanged_workload_has_no_drift() -> None:
    assert find_drift(state(), [live()]) == []
    assert find_drift({}, [live()]) == [], "what is not the stack's is not compared"


def test_a_scaled_and_an_undone_deployment_are_named_with_both_values() -> None:
    now = live()
    now["spec"]["replicas"] = 3
    now["spec"]["template"]["spec"]["containers"][0]["envFrom"][1]["secretRef"]["name"] = "app-a"
    assert [str(drift) for drift in find_drift(state(), [now])] == [
        "Deployment backend: spec.replicas is 3 in the cluster and 2 in the stack",
        "Deployment backend: spec.template.spec.containers[backend].envFrom[1].secretRef.name is 'app-a' in the "
        "cluster and 'app-b' in the stack",
    ]


def test_an_injected_container_is_no_drift_and_a_removed_one_is() -> None:
    now = live()
    now["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "mesh"})
    assert find_drift(state(), [now]) == []
    now["spec"]["template"]["spec"]["containers"].pop()
    assert {drift.field for drift in find_drift(state(), [now])} > {"spec.template.spec.containers[backend].image"}


def test_a_deleted_workload_is_shown_and_one_that_is_being_replaced_is_not() -> None:
    assert [str(drift) for drift in find_drift(state(kind="StatefulSet"), [live()])] == [
        "StatefulSet backend: metadata.name is None in the cluster and 'backend' in the stack"
    ]
    assert find_drift(state(delete=True), []) == []


def test_a_secret_is_never_compared_or_shown() -> None:
    sealed = copy.deepcopy(SPEC)
    sealed["template"]["spec"]["containers"][0]["image"] = {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        "ciphertext": "v1:abc",
    }
    assert find_drift(state(sealed), [live()]) == []


def test_the_number_of_pods_that_an_autoscaler_decides_is_no_drift() -> None:
    now = live()
    now["spec"]["replicas"] = 5
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend"}
    scaler = {
        "type": "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
        "inputs": {"metadata": {"name": "backend"}, "spec": {"scaleTargetRef": target}},
    }
    whole = state()
    assert [drift.field for drift in find_drift(whole, [now])] == ["spec.replicas"]
    whole["resources"].append(scaler)
    assert find_drift(whole, [now]) == []
