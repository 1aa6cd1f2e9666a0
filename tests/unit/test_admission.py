"""The admission policy of a stack's namespace: there when the stack file asks for it, and for this namespace only."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.program import RELEASE, Program, run_program, stack_config


def program(**guards: Any) -> Program:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE)
    config["runbook:guards"] = {**config.get("runbook:guards", {}), **guards}
    return run_program(config)


def test_there_is_none_unless_the_stack_file_asks_for_it() -> None:
    assert not program().all("ValidatingAdmissionPolicy")


@pytest.mark.parametrize(("asked", "actions"), [("deny", ["Deny"]), ("warn", ["Warn", "Audit"])])
def test_it_is_bound_to_the_namespace_of_the_stack(asked: str, actions: list[str]) -> None:
    made = program(admission=asked)
    policy = made.one("ValidatingAdmissionPolicy").inputs
    binding = made.one("ValidatingAdmissionPolicyBinding").inputs
    assert policy["metadata"]["name"] == binding["spec"]["policyName"] == "runbook-shop-pods"
    assert binding["spec"]["validationActions"] == actions
    assert policy["spec"]["failurePolicy"] == "Fail"
    here = {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}
    assert policy["spec"]["matchConstraints"]["namespaceSelector"] == here
    assert binding["spec"]["matchResources"]["namespaceSelector"] == here
    assert len(policy["spec"]["validations"]) == 3
