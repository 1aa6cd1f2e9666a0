"""The engine killed in the middle, two operators at once: the same command again finishes, with nothing left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.support.cluster_stack import Stack


def wait_for(stack: Stack, *arguments: str) -> None:
    stack.kubectl("wait", "--timeout=120s", *arguments)


def engine_of(pid: int) -> int:
    """The `pulumi` process under a `runbook` process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listed.splitlines():
        own, parent, name = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(own), name))
    todo = [pid]
    while todo:
        for child, name in children.get(todo.pop(), []):
            if name == "pulumi":
                return child
            todo.append(child)
    pytest.fail("the deploy has no engine running")


def names(stack: Stack, kinds: str) -> list[str]:
    listed = json.loads(stack.kubectl("get", kinds, "-o", "json"))
    return sorted(f"{item['kind']}/{item['metadata']['name']}" for item in listed["items"])


def in_state(stack: Stack) -> list[str]:
    exported = json.loads(stack.run("pulumi", "stack", "export", "--stack", stack.name, config_file=False).check().out)
    assert exported["deployment"].get("pending_operations") in (None, [])
    found = []
    for resource in exported["deployment"]["resources"]:
        assert not resource.get("delete"), f"{resource['urn']} still waits for its deletion"
        kind = resource["type"].rsplit(":", 1)[-1]
        if resource["type"].startswith("kubernetes:"):
            found.append(f"{kind}/{resource['outputs']['metadata']['name']}")
    return found


@pytest.mark.parametrize("victim", ["engine", "everything"])
def test_killed_in_the_middle_then_the_same_command_again(stack: Stack, images: dict[str, str], victim: str) -> None:
    target = images["shop:v2"] if victim == "engine" else images["shop:v1"]
    first = stack.start("runbook", "deploy", target, "--yes")
    # The middle: a Job of the new release is there, so the engine has created and is waiting.
    subprocess.run(
        ["sh", "-c", 'kubectl -n "$1" get jobs --watch-only -o name | head -n 1 | grep -q .', "sh", stack.namespace],
        env=stack.environment(), check=True, timeout=180,
    )  # fmt: skip
    if victim == "engine":
        os.kill(engine_of(first.pid), signal.SIGKILL)
    else:
        os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=300)

    stack.runbook("deploy", target, "--yes").check()
    assert stack.release["image"] == target
    assert stack.changes() == {}
    kinds = "deployments,statefulsets,jobs,services,ingresses,configmaps,secrets,poddisruptionbudgets,networkpolicies"
    known = set(in_state(stack)) | {"ConfigMap/kube-root-ca.crt", "Service/kubernetes"}
    orphans = [name for name in names(stack, kinds) if name not in known]
    assert orphans == []
    assert len(in_state(stack)) == len(set(in_state(stack))), "the state lists an object twice"


@pytest.mark.parametrize("kind", ["rehearsal", "smoke"])
def test_an_evicted_pod_of_a_check_is_no_failure_of_the_release(
    stack: Stack, images: dict[str, str], kind: str
) -> None:
    """R5: a node is drained while the release is checked."""
    target = images["shop:v1"] if stack.release["image"] == images["shop:v2"] else images["shop:v2"]
    deploy = stack.start("runbook", "deploy", target, "--yes", "--allow-quarantined", "for the test")
    selector = f"app.kubernetes.io/name={kind}"
    watch = ["kubectl", "-n", stack.namespace, "get", "pods", "--selector", selector, "--watch-only", "-o", "name"]
    with subprocess.Popen(watch, env=stack.environment(), stdout=subprocess.PIPE, text=True) as pods:
        assert pods.stdout is not None
        pod = pods.stdout.readline().strip().removeprefix("pod/")
        pods.terminate()
    stack.evict(pod).check()
    out, err = deploy.communicate(timeout=600)
    assert deploy.returncode == 0, out + err
    assert stack.release["image"] == target


def test_two_deploys_at_once(stack: Stack, images: dict[str, str]) -> None:
    first = stack.start("runbook", "deploy", images["shop:v2"], "--yes")
    second = stack.runbook("deploy", images["shop:v2"], "--yes")
    out, err = first.communicate(timeout=600)
    codes = sorted([first.returncode, second.code])
    assert codes == [0, 2], f"{out}{err}\n---\n{second.text}"
    assert stack.changes() == {}
