"""K6: a namespace that exists before the stack is refused, or adopted on request and left when the stack goes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.cluster_stack import Stack

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


def test_an_adopted_one_is_left_with_what_was_in_it(stack: Stack) -> None:
    stack.edit(lambda config: config["runbook:guards"].update(adoptNamespace=True))
    assert "is adopted" in stack.run("pulumi", "preview", *PLAIN).check().text
    stack.run("pulumi", "up", *PLAIN, "--yes", "--skip-preview").check()
    assert labels(stack)["pod-security.kubernetes.io/enforce"] == "restricted"
    assert stack.changes() == {}
    stack.run("pulumi", "destroy", *PLAIN, "--yes", "--skip-preview").check()
    assert (
        "deletionTimestamp"
        not in json.loads(stack.run("kubectl", "get", "namespace", stack.namespace, "--output=json").check().out)[
            "metadata"
        ]
    )
    assert THEIRS in stack.kubectl("get", "configmaps", "--output=name")
    assert stack.kubectl("get", "statefulsets,deployments,networkpolicies", "--output=name") == ""
