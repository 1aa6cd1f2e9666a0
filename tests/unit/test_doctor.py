"""What the doctor asks for, and its limits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from ops.adapters.doctor import find_enforcer
from ops.decisions.doctor import (
    Fault,
    Right,
    judge_database,
    judge_ingress_class,
    judge_rights,
    judge_storage,
    judge_version,
    list_images,
    list_rights,
    list_storage_classes,
)
from settings import StackFile, parse
from tests.support.program import RELEASE, ROOT, committed, secrets_for


def settings(file: str = "Pulumi.prod.yaml", **changes: Any) -> Any:
    config = committed(file, release=RELEASE, **changes)
    return parse(StackFile(file, config, frozenset(f"secrets:{name}" for name in secrets_for(config))))


def allows(rules: list[dict[str, Any]], right: Right) -> bool:
    return any(
        {right.group} & set(rule["apiGroups"])
        and {right.resource, "*"} & set(rule["resources"])
        and {right.verb, "*"} & set(rule["verbs"])
        for rule in rules
    )


@pytest.mark.parametrize("file", ["Pulumi.prod.yaml", "Pulumi.staging.yaml", "Pulumi.sandbox.yaml"])
def test_the_documented_rules_have_every_right_that_is_asked_for(file: str) -> None:
    document = (ROOT / "docs/adopting.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    [role] = [made for block in blocks if (made := yaml.safe_load(block)).get("kind") == "ClusterRole"]
    assert [right for right in list_rights(settings(file)) if not allows(role["rules"], right)] == []


def test_what_is_missing_is_shown_by_resource() -> None:
    assert judge_rights([], 90) == "90 of 90 rights"
    refused = [Right("create", "apps", "deployments"), Right("patch", "apps", "deployments"), Right("list", "", "pods")]
    found = judge_rights(refused, 90)
    assert isinstance(found, Fault)
    assert found.what == "3 of 90 rights are missing: create/patch deployments.apps; list pods"


@pytest.mark.parametrize(
    ("version", "good"), [("v1.30.0", True), ("v1.29.15-gke.100", False), ("v1.34.1+k3s1", True), ("", False)]
)
def test_the_least_version_of_kubernetes(version: str, good: bool) -> None:
    assert isinstance(judge_version({"gitVersion": version}), str) == good


def test_the_default_storage_class_is_needed_only_where_none_is_named() -> None:
    slow = [{"metadata": {"name": "slow"}}]
    assert judge_storage({"slow"}, slow) == "slow of slow"
    assert judge_storage(set(), []) == "no volumes"
    for asked in ({None}, {"fast"}, {"slow", None}):
        assert isinstance(judge_storage(asked, slow), Fault)
    assert None in list_storage_classes(settings("Pulumi.sandbox.yaml"))


def test_an_ingress_class_that_is_there_under_another_name() -> None:
    assert judge_ingress_class("nginx", [{"metadata": {"name": "nginx"}}]) == "nginx"
    other = judge_ingress_class("nginx", [{"metadata": {"name": "traefik"}}])
    assert isinstance(other, Fault)
    assert "className: traefik" in other.remedy


def test_the_oldest_postgres() -> None:
    rights = {"user": "shop", "database": "shop", "create": True}
    assert judge_database({"version": 140000, **rights}) == "PostgreSQL 14, role shop, database shop"
    assert isinstance(judge_database({"version": 130022, **rights}), Fault)


def test_every_image_of_the_stack_file_is_looked_for() -> None:
    found = list_images(settings("Pulumi.sandbox.yaml"), "registry.example.com/shop:1")
    assert set(found) == {
        *("runbook:image", "the release", "data.postgres.image", "data.redis.image"),
        *("monitoring.image", "monitoring.rollback.image"),
    }


def test_what_enforces_network_policies_is_known_by_its_pods() -> None:
    def pods(*names: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name}} for name in names]

    assert find_enforcer(pods("coredns-1", "cilium-x7k2p")) == "cilium"
    assert find_enforcer(pods("coredns-1", "kube-proxy-1")) is None
