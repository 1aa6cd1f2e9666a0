"""Releases on nodes that are drained, cold or without a registry, and beside people who use `kubectl` meanwhile.

None of it is the release's fault: it serves in the end, and customers notice nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.cluster import node
from sandbox.traffic import Traffic
from tests.cluster.test_release import FAILED_AND_ROLLED_BACK, serving
from tests.cluster.test_sandbox import component
from tests.support.cluster_stack import Stack
from tests.support.monitored_stack import eventually

pytestmark = [pytest.mark.drill, pytest.mark.sandbox]
"""The registry and the node are everybody's: no other test may use them meanwhile."""
AGAIN = ("--allow-quarantined", "for the test")
COLD_SECONDS = 45
"""Until the node takes pods, and until the registry answers: longer than a check's pod takes to start."""


@contextmanager
def hanging(name: str) -> Iterator[int]:
    """A program of the node that accepts connections and answers nothing."""
    pid = component(name).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def other(stack: Stack, images: dict[str, str]) -> str:
    """The image that does not run now."""
    return images["shop:v1"] if stack.release["image"] == images["shop:v2"] else images["shop:v2"]


def pods(stack: Stack, selector: str = "app.kubernetes.io/name=backend") -> list[str]:
    listed = json.loads(stack.kubectl("get", "pods", "--selector", selector, "--output=json"))["items"]
    return [pod["metadata"]["name"] for pod in listed if not pod["metadata"].get("deletionTimestamp")]


def evict(stack: Stack, pod: str) -> None:
    """As `kubectl drain` does: again while the disruption budget forbids it."""

    def is_gone() -> bool:
        done = stack.evict(pod)
        assert done.code == 0 or "disruption budget" in done.text or "not found" in done.text, done.text
        return pod not in pods(stack)

    eventually(is_gone, 180)


def wait_for_rollout(stack: Stack, generation: int) -> None:
    """Until the Deployment has been changed: the release is in the middle of its rollout."""
    read = ("get", "deployment", "backend", "--output=jsonpath={.metadata.generation}")
    eventually(lambda: int(stack.kubectl(*read)) > generation, 300)


def generation(stack: Stack) -> int:
    return int(stack.kubectl("get", "deployment", "backend", "--output=jsonpath={.metadata.generation}"))


def ended(deploy: subprocess.Popen[str]) -> None:
    out, err = deploy.communicate(timeout=600)
    assert deploy.returncode == 0, out + err


def is_served(stack: Stack, image: str) -> None:
    assert stack.release["image"] == image
    assert serving(stack) == stack.release["git"]
    assert "runbook:quarantine" not in stack.config


def test_a_node_that_is_drained_in_the_middle_of_a_rollout(stack: Stack, images: dict[str, str]) -> None:
    """Each pod of the application is evicted once, the new ones among them."""
    target, before = other(stack, images), generation(stack)
    with Traffic(stack.url) as traffic:
        deploy = stack.start("runbook", "deploy", target, "--yes", *AGAIN)
        wait_for_rollout(stack, before)
        for pod in pods(stack):
            evict(stack, pod)
        ended(deploy)
        for pod in pods(stack):
            evict(stack, pod)
        stack.kubectl("rollout", "status", "deployment/backend", "--timeout=120s")
    assert traffic.failures == []
    is_served(stack, target)


def test_kubectl_scale_and_edit_in_the_middle_of_a_rollout(stack: Stack, images: dict[str, str]) -> None:
    target, before = other(stack, images), generation(stack)
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 47}}}}
    with Traffic(stack.url) as traffic:
        deploy = stack.start("runbook", "deploy", target, "--yes", *AGAIN)
        wait_for_rollout(stack, before)
        stack.kubectl("scale", "deployment/backend", "--replicas=3")
        stack.kubectl("patch", "deployment/backend", "--field-manager=kubectl-edit", "--patch", json.dumps(patch))
        ended(deploy)
        is_served(stack, target)
        drift = {each["field"]: each["cluster"] for each in stack.runbook("status", "--json").json()["drift"]}
        assert drift["spec.replicas"] == 3, "it is reported, and the next release takes it back"
        back = other(stack, images)
        stack.runbook("deploy", back, "--yes", *AGAIN).check()
    assert traffic.failures == []
    is_served(stack, back)
    assert stack.runbook("status", "--json").json()["drift"] == []


def test_a_cold_node(stack: Stack, images: dict[str, str]) -> None:
    """The new image is not on the node, the registry is slow, and no node takes pods for a while."""
    target = other(stack, images)
    found = node.find()
    assert found is not None
    listed = subprocess.run(
        found.command("ctr", "--namespace=k8s.io", "images", "list", "--quiet"),
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    held = [name for name in listed if name.partition("@")[2] == target.partition("@")[2]]
    for name in held:
        remove = ("ctr", "--namespace=k8s.io", "images", "remove", "--sync", name)
        subprocess.run(found.command(*remove), capture_output=True, check=True)
    (worker,) = json.loads(stack.kubectl("get", "nodes", "--output=json"))["items"]
    with Traffic(stack.url) as traffic:
        stack.kubectl("cordon", worker["metadata"]["name"])
        try:
            deploy = stack.start("runbook", "deploy", target, "--yes", *AGAIN)
            eventually(lambda: waiting(stack, "Unschedulable"), 120)
            with hanging("registry"):
                stack.kubectl("uncordon", worker["metadata"]["name"])
                time.sleep(COLD_SECONDS)
        finally:
            stack.kubectl("uncordon", worker["metadata"]["name"])
        ended(deploy)
    assert traffic.failures == []
    is_served(stack, target)


def waiting(stack: Stack, reason: str) -> bool:
    listed = json.loads(stack.kubectl("get", "pods", "--output=json"))["items"]
    return any(
        condition.get("reason") == reason
        for pod in listed
        if pod["status"]["phase"] == "Pending"
        for condition in pod["status"].get("conditions", [])
    )


def test_a_rollback_needs_no_registry(stack: Stack, images: dict[str, str]) -> None:
    """R6: the node has the image."""
    target = other(stack, images)
    with hanging("registry"), Traffic(stack.url) as traffic:
        stack.runbook("rollback", "--yes").check()
    assert traffic.failures == []
    assert stack.release["image"] == target
    assert serving(stack) == stack.release["git"]


def test_a_registry_that_hangs_stops_a_deploy_before_anything_changes(stack: Stack, images: dict[str, str]) -> None:
    before = stack.release
    with hanging("registry"), Traffic(stack.url) as traffic:
        deploy = stack.runbook("deploy", other(stack, images), "--yes", *AGAIN)
    assert deploy.code != 0
    assert deploy.code != FAILED_AND_ROLLED_BACK, deploy.text
    assert "registry" in deploy.text, "one line says what to mend"
    assert traffic.failures == []
    assert stack.release == before
    assert stack.changes() == {}
