"""The rules of the policy pack: what each finds, and that nothing the program makes breaks one."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from sandbox.paths import ROOT
from settings import application
from tests.support.monitored_config import watched
from tests.support.program import RELEASE, committed, run_program
from tests.unit.test_controller import controlled
from tests.unit.test_pod_shapes import shaped_config

_SPEC = importlib.util.spec_from_file_location("policy_rules", ROOT / "policy" / "rules.py")
assert _SPEC
assert _SPEC.loader
rules = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rules)

GOOD: dict[str, Any] = {
    "name": "app",
    "image": "registry.example.com/shop@sha256:" + "a" * 64,
    "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {}}}],
    "resources": {side: {"cpu": "1", "memory": "1Gi"} for side in ("requests", "limits")},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"securityContext": SECURITY, "containers": [{**GOOD, **(container or {})}], **spec}


def find_problems(spec: dict[str, Any]) -> dict[str, list[str]]:
    found = {name: list(check(spec)) for name, (_, check) in rules.OF_PODS.items()}
    return {name: problems for name, problems in found.items() if problems}


def test_a_good_pod_breaks_no_rule() -> None:
    assert find_problems(pod()) == {}


@pytest.mark.parametrize(
    ("spec", "rule", "words"),
    [
        (pod({"image": "nginx:1.27"}), "image-by-digest", "nginx:1.27 is not by digest"),
        (pod(initContainers=[{**GOOD, "name": "first", "image": "x"}]), "image-by-digest", "container first"),
        (pod(securityContext={}), "restricted", "runAsNonRoot is not true"),
        (pod({"securityContext": {**GOOD["securityContext"], "runAsUser": 0}}), "restricted", "which is root"),
        (pod({"securityContext": {"capabilities": {"drop": ["ALL"]}}}), "restricted", "allowPrivilegeEscalation"),
        (pod({"securityContext": {"allowPrivilegeEscalation": False}}), "restricted", "capabilities.drop"),
        (pod(hostNetwork=True), "restricted", "hostNetwork is true"),
        (pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "restricted", "volume v is a hostPath"),
        (pod({"env": [{"name": "STRIPE_SECRET_KEY", "value": "sk"}]}), "no-plaintext-secret", "STRIPE_SECRET_KEY"),
        (pod({"env": [{"name": "URL", "value": "redis://u:pw@host"}]}), "no-plaintext-secret", "variable URL"),
        (
            pod({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}),
            "requests-and-limits",
            "no cpu and no memory",
        ),
    ],
)
def test_each_rule_finds_what_breaks_it_and_no_other_does(spec: dict[str, Any], rule: str, words: str) -> None:
    found = find_problems(spec)
    assert list(found) == [rule], found
    assert any(words in problem for problem in found[rule]), found


def test_a_secret_is_never_repeated() -> None:
    shown = find_problems(pod({"env": [{"name": "API_TOKEN", "value": "canary-51"}]}))
    assert "canary-51" not in str(shown)


@pytest.mark.parametrize("kind", ["apps/v1:Deployment", "apps/v1:StatefulSet", "batch/v1:Job"])
def test_pods_are_found_in_every_workload(kind: str) -> None:
    found = rules.find_pod(f"kubernetes:{kind}", {"spec": {"template": {"spec": pod()}}})
    assert found == pod()


def test_pods_of_cron_jobs_and_no_others() -> None:
    job = {"spec": {"jobTemplate": {"spec": {"template": {"spec": pod()}}}}}
    assert rules.find_pod("kubernetes:batch/v1:CronJob", job) == pod()
    assert rules.find_pod("kubernetes:core/v1:Pod", {"spec": pod()}) == pod()
    assert rules.find_pod("kubernetes:core/v1:Service", {"spec": {}}) is None
    assert rules.find_pod("random:index/randomId:RandomId", {}) is None


def test_config_maps() -> None:
    check = rules.check_config_map
    data = {"API_TOKEN": "abc", "LOG_LEVEL": "info", "TOKEN_FILE": "/run/token"}
    assert [problem.split()[1] for problem in check("kubernetes:core/v1:ConfigMap", {"data": data})] == ["API_TOKEN"]
    assert not list(check("kubernetes:core/v1:Secret", {"data": data}))


def test_what_a_secret_looks_like_is_said_once() -> None:
    assert application.LOOKS_SECRET == rules.LOOKS_SECRET


def test_nothing_that_the_program_makes_breaks_a_rule() -> None:
    files = ("Pulumi.sandbox.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml")
    configs = [committed(file, release=RELEASE) for file in files] + [shaped_config(), controlled(), watched()]
    seen = 0
    for config in configs:
        for resource in run_program(config).objects:
            found = rules.find_pod(resource.type, resource.inputs)
            assert not list(rules.check_config_map(resource.type, resource.inputs)), resource.urn
            if found is not None:
                seen += 1
                assert find_problems(dict(found)) == {}, resource.urn
    assert seen > 60


def test_lists_of_another_type_are_lists() -> None:
    """The engine's are no `list`."""
    broken = {**GOOD, "image": "shop:1", "env": ({"name": "API_TOKEN", "value": "x"},), "resources": {}}
    found = find_problems({"securityContext": SECURITY, "containers": (broken,)})
    assert set(found) == {"image-by-digest", "no-plaintext-secret", "requests-and-limits"}
