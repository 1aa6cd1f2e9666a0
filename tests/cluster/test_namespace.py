"""K6: a namespace that exists before the stack is refused, or adopted on request and left when the stack goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.cluster_stack import Checked, Stack
from tests.support.monitored_stack import eventually

NAME = "namespace"
PLAIN = ("--stack", NAME, "--non-interactive")
THEIRS = "configmap/theirs"


@pytest.fixture(scope="module")
def stack(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Never released, in a namespace that another owner has made."""
    made = Stack.create(NAME, tmp_path_factory.mktemp(NAME), backups=False)
    try:
        made.run("kubectl", "create", "namespace", made.namespace).check()
        made.kubectl("create", THEIRS.partition("/")[0], "theirs", "--from-literal=a=b")
        yield made
    finally:
        made.forget()


def labels(stack: Stack) -> dict[str, str]:
    found = stack.run("kubectl", "get", "namespace", stack.namespace, "--output=json").check().json()
    return found["metadata"]["labels"]


def test_it_is_refused_before_anything_changes(stack: Stack, images: dict[str, str]) -> None:
    before = labels(stack)
    commands = (
        ("pulumi", "preview", *PLAIN),
        ("pulumi", "up", *PLAIN, "--yes", "--skip-preview"),
        ("runbook", "deploy", images["shop:v1"], "--yes"),
    )
    for command in commands:
        refused = stack.run(*command)
        assert refused.code != 0, refused.text
        assert f"namespace {stack.namespace} exists" in refused.text
        assert "adoptNamespace: true" in refused.text
    assert labels(stack) == before
    assert stack.kubectl("get", "secrets,networkpolicies,resourcequotas", "--output=name") == ""


def make_pod(image: str, **container: object) -> str:
    """A pod that Pod Security "restricted" lets in."""
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    spec = {"containers": [{"name": "tried", "image": image, "securityContext": context, **container}]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tried"}, "spec": spec})


def admit(stack: Stack, pod: str) -> Checked:
    """What the API server answers; nothing is created."""
    where = ("--namespace", stack.namespace)
    return stack.run("kubectl", *where, "create", "--dry-run=server", "--filename=-", stdin=pod)


def test_it_is_adopted_on_request(stack: Stack) -> None:
    stack.edit(lambda config: config["runbook:guards"].update(adoptNamespace=True))
    assert "is adopted" in stack.run("pulumi", "preview", *PLAIN).check().text
    stack.run("pulumi", "up", *PLAIN, "--yes", "--skip-preview").check()
    assert labels(stack)["pod-security.kubernetes.io/enforce"] == "restricted"
    assert stack.changes() == {}


def await_answer(stack: Stack, pod: str, why: str, *, allowed: bool) -> None:
    """The API server takes policies into its memory a moment after they are there."""

    def answered() -> bool:
        answer = admit(stack, pod)
        return why in answer.text and (answer.code == 0) is allowed

    eventually(answered, 30, lambda: admit(stack, pod))


def test_an_admission_policy_warns_and_then_refuses(stack: Stack, images: dict[str, str]) -> None:
    good = images["shop:v1"]
    by_tag = (make_pod(f"{good.partition('@')[0]}:v1"), "container tried has an image that is not named by digest")
    in_clear = (
        make_pod(good, env=[{"name": "API_TOKEN", "value": "a1b2c3d4e5"}]),
        "container tried has a variable whose plain value looks like a secret",
    )
    for choice, allowed in (("warn", True), ("deny", False)):
        stack.edit(lambda config, choice=choice: config["runbook:guards"].update(admission=choice))
        stack.run("pulumi", "up", *PLAIN, "--yes", "--skip-preview").check()
        for pod, why in (by_tag, in_clear):
            await_answer(stack, pod, why, allowed=allowed)
        assert "container tried has" not in admit(stack, make_pod(good)).check().text


def test_an_adopted_one_is_left_with_what_was_in_it(stack: Stack) -> None:
    stack.run("pulumi", "destroy", *PLAIN, "--yes", "--skip-preview").check()
    assert (
        "deletionTimestamp"
        not in json.loads(stack.run("kubectl", "get", "namespace", stack.namespace, "--output=json").check().out)[
            "metadata"
        ]
    )
    assert THEIRS in stack.kubectl("get", "configmaps", "--output=name")
    assert stack.kubectl("get", "statefulsets,deployments,networkpolicies", "--output=name") == ""
