"""Proof after a rollout: which Jobs there are, in which order, and when they are made again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from settings import SettingsError, StackFile, parse
from tests.support.program import RELEASE, Program, run_program, secrets_for, stack_config

STAGING = {
    "name": "staging",
    "run": ["npm run tokens:get:staging", "npm run postdeploy:staging", "npm run postdeploy:staging:online"],
    "secretOutput": True,
}
PROD = {"name": "prod", "run": "npm run postdeploy:prod", "timeoutSeconds": 90}

PLACEMENT = 300
"""Seconds until a pod has a node and the image."""


def program(release: dict[str, Any] | None = None, image: str | None = None, **commands: Any) -> Program:
    config = stack_config("Pulumi.sandbox.yaml", release=release or RELEASE)
    config["runbook:commands"] = {**config["runbook:commands"], **commands}
    if image:
        config["runbook:image"] = image
    return run_program(config)


def jobs(made: Program) -> dict[str, Any]:
    return {job.object_name.rsplit("-", 1)[0]: job for job in made.all("Job")}


def waits_for(made: Program, job: Any) -> set[str]:
    """Kinds and names of what a Job waits for."""
    by_urn = {item.urn: item for item in made.resources}
    return {by_urn[urn].name for urn in job.depends_on if urn in by_urn}


def test_requests_follow_the_smoke_check_and_are_the_runbooks_by_default() -> None:
    made = program(validation={})
    job = jobs(made)["validate"]
    (container,) = job.inputs["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert [check["path"] for check in json.loads(env["CHECKS"])] == ["/api/health", "/shop", "/api/auth/status"]
    assert {check["target"] for check in json.loads(env["CHECKS"])} == {"http://backend:3000"}
    assert container["command"] == ["python3", "-m", "tasks", "validate"]
    assert container["image"] == stack_config("Pulumi.sandbox.yaml")["runbook:image"]
    assert job.inputs["spec"]["activeDeadlineSeconds"] == PLACEMENT + 60
    assert any("smoke" in name for name in waits_for(made, job)), waits_for(made, job)


def test_each_step_is_a_job_that_waits_for_the_one_before() -> None:
    made = program(validation={}, pipeline=[STAGING, PROD])
    found = jobs(made)
    staging, prod = found["pipeline-staging"], found["pipeline-prod"]
    pod = staging.inputs["spec"]["template"]
    wait, *lines = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    assert wait["name"] == "reach"
    assert [" ".join(line["command"]) for line in lines] == STAGING["run"]
    assert pod["metadata"]["annotations"]["runbook/output"] == "secret"
    assert {line["terminationMessagePolicy"] for line in lines} == {"File"}
    assert prod.inputs["spec"]["activeDeadlineSeconds"] == PLACEMENT + 90
    assert any("validat" in name for name in waits_for(made, staging)), waits_for(made, staging)
    assert any("pipeline-staging" in name for name in waits_for(made, prod)), waits_for(made, prod)


def test_other_requests_are_another_job_and_the_same_are_not() -> None:
    def name(**more: Any) -> str:
        return jobs(program(**more))["validate"].object_name

    first = name(validation={})
    assert name(validation={}) == first
    assert name(validation={"checks": [{"path": "/other"}]}) != first
    assert name(validation={"attempts": 1}) != first
    assert name(validation={}, release={**RELEASE, "revision": 2}) != first


def test_a_rollback_has_neither() -> None:
    back = {**RELEASE, "revision": 3, "action": "rollback", "rollbackOf": 2, "migrate": False}
    assert not {"validate", "pipeline-prod"} & set(jobs(program(back, validation={}, pipeline=[PROD])))


def test_without_the_keys_there_is_neither() -> None:
    assert not [name for name in jobs(program()) if name.startswith(("validate", "pipeline"))]


def test_two_steps_of_one_name_are_refused() -> None:
    config = stack_config("Pulumi.sandbox.yaml", release=RELEASE, commands={"pipeline": [PROD, PROD]})
    sealed = frozenset(f"secrets:{name}" for name in secrets_for(config))
    with pytest.raises(SettingsError, match="already the name of another step"):
        parse(StackFile("Pulumi.sandbox.yaml", config, sealed))
