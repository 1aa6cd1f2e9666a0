"""Which service the checks of a release call, in whatever order the stack file lists them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from settings import SettingsError, StackFile, StackSettings, parse
from tests.support.program import RELEASE, committed, run_program, secrets_for

WORKER = {
    "name": "worker",
    "command": "npm run worker",
    "replicas": 2,
    "probes": {kind: {"command": f"test -e /tmp/{kind}"} for kind in ("startup", "readiness", "liveness")},
}


def config(*services: dict[str, Any], main: str | None = None) -> dict[str, Any]:
    made = copy.deepcopy(committed("Pulumi.sandbox.yaml", release=RELEASE))
    made["runbook:guards"]["quota"] |= {
        "limitsCpu": "60",
        "cpu": "60",
        "memory": "60Gi",
        "limitsMemory": "60Gi",
        "pods": 100,
    }
    application = made["runbook:application"]
    application["services"] = [*services] or application["services"]
    if main:
        application["main"] = main
    return made


BACKEND = config()["runbook:application"]["services"][0]


def judged(stack: dict[str, Any]) -> StackSettings:
    return parse(StackFile("Pulumi.test.yaml", stack, frozenset(f"secrets:{name}" for name in secrets_for(stack))))


def test_a_worker_that_is_listed_first_is_not_called() -> None:
    stack = config(WORKER, BACKEND)
    program = run_program(stack)
    smoke = next(job for job in program.all("Job") if job.object_name.startswith("smoke"))
    (container,) = (one for one in smoke.containers if one["name"] == "smoke")
    variables = {item["name"]: item.get("value") for item in container["env"]}
    assert variables["TARGET_URL"] == f"http://{BACKEND['name']}:{BACKEND['port']}"
    rehearsals = [job for job in program.all("Job") if job.object_name.startswith("rehearsal")]
    assert len(rehearsals) == 1
    assert BACKEND["port"] in [
        port["containerPort"] for container in rehearsals[0].containers for port in container.get("ports", [])
    ]
    assert "worker:None" not in str([resource.inputs for resource in program.resources])


@pytest.mark.parametrize("order", [0, 1])
def test_the_service_of_the_root_path_is_it(order: int) -> None:
    api = {**BACKEND, "name": "api", "paths": ["/api"]}
    services = [{**BACKEND, "paths": ["/"]}, api]
    stack = config(*(services if order == 0 else services[::-1]))
    assert judged(stack).application.main_service.name == BACKEND["name"]


def test_two_that_could_be_it_are_a_setting() -> None:
    services = [{**BACKEND, "name": name, "paths": [f"/{name}"]} for name in ("api", "admin")]
    with pytest.raises(
        SettingsError, match=r"runbook:application\.main\n[^\n]*\n[^\n]*name the service [^\n]*, one of api, admin"
    ):
        judged(config(*services))
    assert judged(config(*services, main="admin")).application.main_service.name == "admin"


@pytest.mark.parametrize(
    ("services", "main", "why"),
    [
        ((WORKER,), None, "no service has a port"),
        ((WORKER, BACKEND), "worker", "worker has no port to call"),
        ((WORKER, BACKEND), "shop", "no such service; services with a port: backend"),
    ],
)
def test_one_that_cannot_be_called_is_refused(services: Any, main: str | None, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        judged(config(*services, main=main))


def rehearsal_of(stack: dict[str, Any]) -> list[dict[str, Any]]:
    """The services that a rehearsal starts, as containers."""
    found = [job for job in run_program(stack).all("Job") if job.object_name.startswith("rehearsal")]
    return (found[0].pod or {})["initContainers"] if found else []


def test_a_copy_of_a_worker_takes_no_jobs_from_the_live_queue() -> None:
    """A rehearsal has the live database and queues: what runs in it is a setting."""
    assert [each["name"] for each in rehearsal_of(config(WORKER, BACKEND))] == ["backend"]
    willing = {**WORKER, "rehearse": True, "rehearsalEnv": {"QUEUE": ""}}
    copies = rehearsal_of(config(willing, BACKEND))
    assert [(each["name"], each["restartPolicy"]) for each in copies] == [("backend", "Always"), ("worker", "Always")]
    assert [each.get("env", []) for each in copies] == [[], [{"name": "QUEUE", "value": ""}]]
    assert rehearsal_of(config(WORKER, {**BACKEND, "rehearse": False})) == []


def test_services_that_share_a_port_are_not_rehearsed_in_one_pod() -> None:
    other = {**BACKEND, "name": "other", "paths": ["/other"], "rehearse": True}
    with pytest.raises(SettingsError, match=r"services\[1\]\.rehearse\n[^\n]*\n[^\n]*port 3000, with backend"):
        judged(config(BACKEND, other))
    with pytest.raises(SettingsError, match=r"must not run in it"):
        judged(config({**BACKEND, "rehearse": False}, {**WORKER, "rehearse": True}))
